"""Whether p = inertia · dq/dt is right for a family."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.learners import Learner
from meta_hamiltonian.learners.numerics.least_squares import least_squares
from meta_hamiltonian.learners.numerics.linear_head import head_rows
from meta_hamiltonian.observations import ObservationError

# Velocities that depend on other things than their own momentum by this part, or by twice the usual error of the
# learner's fields, are those of another law.
_ALLOWED, _TIMES = 0.02, 2.0
_STATES, _RESOLVED = 512, 1e-7
# Members with so many different latents are looked at.
_LATENTS = 16


def check_momentum(learner: Learner, inertia: Float[Tensor, " n"], usual: float | None = None) -> None:
    """Looks for a member of the family whose velocities are dq/dt = p / inertia.

    Only a learner that knows which heads its family has can tell.

    **Arguments:** `usual`: the relative error of the fields of held-out systems, if known.

    **Raises:** [`ObservationError`][] if there is none, as where an inertia depends on the state.
    """
    net = copy.deepcopy(learner.net).double()
    heads = learner.family_heads()
    if heads is None or not net.has_energy:
        return
    centre, factor = (part.double() for part in heads)
    n = net.state_dim // 2
    x = net.domain.sobol(_STATES).to(learner.device)
    wanted = (x[:, n:] / inertia.to(x)).flatten()

    def nearest(z: Tensor | None) -> float:
        """What the best member with these latents misses it by."""
        with torch.no_grad():
            rows = head_rows(net, net.beside(x[None], {} if z is None else {"latents": z[None]}))[0]
        rows = rows.unflatten(0, (_STATES, 2 * n))[:, :n].flatten(0, 1)
        target = wanted - (rows @ centre)[:, 0]
        best = least_squares(rows @ factor, target[:, None], _RESOLVED)[:, 0]
        return float((rows @ factor @ best - target).norm() / wanted.norm())

    missed = min(map(nearest, learner.likely_latents(_LATENTS)))
    if missed > max(_ALLOWED, _TIMES * (usual or 0.0)):
        raise ObservationError(
            f"no member of this family has dq/dt = p / inertia: the nearest one misses it by {missed:.0%}, since its "
            "velocities depend on more than one momentum each; give momenta (columns t,q,p or q1…, p1…)"
        )
