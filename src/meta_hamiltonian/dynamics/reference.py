"""True orbits, as exact as float64 allows: what every prediction is compared with."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics.dop853 import DOP853, first_steps

_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 10.0
_EXPONENT = -1 / 8
# Steps shorter than this part of the time asked for are at the end of what float64 resolves.
_RESOLVED = 1e-13


def reference_orbits(
    field: Callable[[Float[Tensor, "systems state"]], Float[Tensor, "systems state"]],
    x0: Float[Tensor, "systems state"],
    t: Float[Tensor, " instants"],
    tolerance: float,
    sizes: Sequence[float] | None = None,
) -> Float[Tensor, "instants systems state"]:
    """Solves dx/dt = field(x) for a batch of systems, each with steps of its own that end at the instants.

    No orbit is ever stopped, however short its steps: these orbits are the reference.

    **Arguments:**

    - `field`: the vector fields, row by row: system i's state is row i.
    - `x0`: the states at `t[0]`, in float64.
    - `t`: increasing times.
    - `tolerance`: error of a step, relative to the state, and to `sizes` where a coordinate is near 0.
    - `sizes`: the sizes of the coordinates, such as [`Domain.sizes`][]; None is 1 for all.

    **Raises:** `ValueError` where the field has a singularity that float64 cannot pass.
    """
    with torch.no_grad():
        method = DOP853(field, x0)
        t, x, rate = t.to(x0), x0.clone(), field(x0)
        least = torch.ones_like(x0[0]) if sizes is None else x0.new_tensor(sizes)
        time, states = t[0].expand(len(x0)).clone(), x0.expand(len(t), *x0.shape).clone()
        following = torch.ones(len(x0), dtype=torch.long, device=x0.device)
        dt = first_steps(x, rate, tolerance * (least + x.abs())).minimum(t[-1] - t[0])
        shortest = _RESOLVED * (t[-1] - t[0])
        while (active := following < len(t)).any():
            goal = t[following.clamp(max=len(t) - 1)]
            h = torch.where(active, dt.minimum(goal - time), 0.0)
            if (active & (dt < shortest)).any():
                raise ValueError(
                    "a true orbit runs into a singularity of its field; give initial states whose orbits stay away "
                    "from it, as `sample_initial_states` should"
                )
            new, k = method.step(x, rate, h)
            scale = tolerance * (least + torch.maximum(x.abs(), new.abs()))
            error = method.error(k, scale, h)
            good = active & (error <= 1)  # not so where it is not a number
            whole = h == goal - time
            time = torch.where(good, torch.where(whole, goal, time + h), time)
            x, rate = torch.where(good[:, None], new, x), torch.where(good[:, None], k[-1], rate)
            there = (good & whole).nonzero()[:, 0]
            states[following[there], there] = x[there]
            following[there] += 1
            factor = (_SAFETY * error.clamp_min(1e-16) ** _EXPONENT).clamp(_SHRINK, _GROW).nan_to_num(nan=_SHRINK)
            # A step that was cut short to end at an instant tells little of how long the next may be.
            proposed = torch.where(
                good, torch.maximum(h * factor, torch.where(whole, dt, 0.0)), h * factor.clamp(max=1)
            )
            dt = torch.where(active, proposed, dt)
        return states
