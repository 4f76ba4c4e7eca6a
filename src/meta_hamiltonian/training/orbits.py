"""The outer loop on orbits themselves: multiple shooting through recordings, without derivatives."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torchdiffeq import odeint

from meta_hamiltonian.basics.exceptions import ConfigError
from meta_hamiltonian.dynamics import FRICTION, Signal
from meta_hamiltonian.episodes import Episodes
from meta_hamiltonian.episodes.recorded import RecordedDataModule
from meta_hamiltonian.inference.shooting import Windows
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.learners.loss import task_scale
from meta_hamiltonian.learners.numerics.least_squares import least_squares
from meta_hamiltonian.learners.numerics.linear_head import head_weights
from meta_hamiltonian.models.adapted import REACH
from meta_hamiltonian.observations import Derivatives, canonical
from meta_hamiltonian.training.modules import MetaModule

# Intervals of a window, and windows of a step at most.
_LENGTH, _MOST = 10, 1000
# The cost of a gap between two windows, relative to an observation that is missed by as much.
_CONTINUITY = 10.0
# Adam's rates, for shared weights and for the numbers that each member and each window has of its own.
_SHARED, _OWN = 2e-3, 2e-2
# The part of the windows whose orbits may leave the region that orbits are followed in, before training.
_LOST = 0.1
# Orbits that reach this part of that region are taken for those that leave it.
_INSIDE = 0.99
# Observations count as no more exact than this part of the box, and dry friction is smooth below this part of the
# speeds of the box.
_LEAST_NOISE, _SLOW = 1e-6, 1e-2


class OrbitLoop(MetaModule):
    """Adam on the distance between orbits and what was observed, in units of its noise (`data.loss=orbits`).

    Each recording is cut into windows. A window has a first state of its own and an orbit from there, by torchdiffeq's
    Runge-Kutta method with one step between two instants. Training minimises two distances together: that of the orbits
    from the observations, and that of each window's end from the next one's beginning. The unknowns are the body, w₀
    and L, and of each member the head v ~ N(0, I), the coefficients of its friction and the gains of its inputs.
    Derivatives are needed only to begin with, and to validate.

    ??? cite "Reference"

        Multiple shooting: Bock: Recent advances in parameter identification techniques for ODE. In: Numerical treatment
        of inverse problems in differential and integral equations, 1983. For neural networks: Turan, Jäschke: Multiple
        shooting for training neural differential equations on time series. IEEE Control Systems Letters 6, 2021.
    """

    def __init__(
        self,
        learner: Ridge,
        settings: Mapping[str, Any],
        max_skipped: int,
        data: RecordedDataModule,
    ):
        """**Arguments** beside those of [`MetaModule`][]:

        - `data`: the data module of the recordings, with the friction that they have.

        **Raises:** [`ConfigError`][] for members whose rates were observed without times.
        """
        super().__init__(learner, settings, max_skipped)
        members = data.recordings.train
        trajectories = [one.observations for one in members if not isinstance(one.observations, Derivatives)]
        if len(trajectories) < len(members):
            raise ConfigError("data.loss=orbits is not allowed here: states without times have no orbits")
        learner.find_prior(data.known)
        with torch.no_grad():
            heads = torch.stack([learner.solve(one)[0] for one in _scaled(data)])
            centred = (heads - learner.columns(heads.new_zeros(learner.rank, heads.shape[-1]))).double()
            factor = learner.prior_factor.double().expand(len(centred), -1, -1)
            v = least_squares(factor, centred)
        self.heads = nn.Parameter(v.to(heads))
        paths, owner, signals = [], [], []
        for i, (member, of_member) in enumerate(zip(members, trajectories, strict=True)):
            inertia = data.recordings.inertias.of(member.observations)
            for j, trajectory in enumerate(of_member):
                paths.append(canonical(trajectory, inertia))  # pyright: ignore[reportArgumentType]
                owner.append(i)
                signals.append(member.signals[j] if member.signals else None)
        windows = Windows.of(paths, _LENGTH)
        dtype, box = heads.dtype, learner.net.state_box.double()
        noise = torch.stack([path.noise for path in paths]).maximum(_LEAST_NOISE * box)
        self.kinds = data.friction
        self.width = _SLOW * float(box[: len(box) // 2].max())
        # log d of each member and kind.
        self.friction = nn.Parameter(torch.full((len(members), len(self.kinds)), _SMALL_FRICTION, dtype=dtype))
        self.moved = nn.Parameter(torch.zeros_like(windows.nodes, dtype=dtype))
        n, inputs = len(box) // 2, 0 if members[0].inputs is None else members[0].inputs.shape[1]
        gains = torch.zeros(len(members), n, inputs, dtype=dtype)
        if inputs:  # the members for training come first
            found = learner.free_coefficients(data.known)[: len(members), len(self.kinds) :]
            gains = found.unflatten(1, (n, inputs)).to(dtype)
        self.gains = nn.Parameter(gains)
        constants = {
            "u": _at_stages(signals, windows, inputs),
            "t": windows.t,
            "observed": windows.observed,
            "smoothed": windows.nodes,
            "sigma": noise[windows.trajectory],
            "scale": torch.stack([task_scale(one.points) for one in members]),
        }
        for name, value in constants.items():
            self.register_buffer(name, value.to(dtype), persistent=False)
        self.register_buffer("member", torch.tensor(owner)[windows.trajectory], persistent=False)
        self.register_buffer("continues", windows.continues, persistent=False)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam, its rates falling to zero on a cosine."""
        shared = [p for name, p in self.learner.named_parameters() if name != "log_noise"]
        own = [self.heads, self.moved, self.friction, self.gains]
        optimizer = torch.optim.Adam([{"params": shared, "lr": _SHARED}, {"params": own, "lr": _OWN}])
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}

    def on_train_start(self) -> None:
        """**Raises:** [`ConfigError`][] where the orbits that training would begin with run away."""
        super().on_train_start()
        with torch.no_grad():
            x = self.orbits(self._chosen(0))
        away = self._leaves(x).any(-1)
        if away.double().mean() > _LOST:
            raise ConfigError(
                f"data.loss=orbits is not allowed here: from {int(away.sum())} of {len(away)} parts of the recordings "
                "the orbits run away, since too much happens between two instants, or the derivatives are not known "
                "well enough to begin with; use data.loss=derivatives, or record more densely"
            )

    def training_step(self, batch: Episodes, batch_idx: int) -> Mapping[str, Tensor]:
        """Half the mean square of the orbits' residuals, and the costs of gaps and heads."""
        loss = self.misfit(self._chosen(batch_idx))
        self.count(~loss.detach().isfinite())
        return {"loss": loss, "query_loss": loss.detach()}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Takes no step where orbits ran away, and leaves a separated body separated."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
        if self.learner.net.separated:  # weights that mix q and p are 0, and so are heads of features that do
            for parameter in self.learner.parameters():
                if parameter.dim() > 1 and parameter.grad is not None:
                    parameter.grad.masked_fill_(parameter == 0, 0.0)

    def misfit(self, chosen: Tensor) -> Float[Tensor, ""]:
        """The loss of some of the windows, by their numbers."""
        observed, sigma, member, continues = (
            self.get_buffer(name)[chosen] for name in ("observed", "sigma", "member", "continues")
        )
        x = self.orbits(chosen)
        # Orbits that leave the region stop there; from then on they tell nothing of the law.
        stays = self._leaves(x.detach()).cumsum(1) == 0
        there = observed.isfinite() & stays[..., None]
        missed = torch.where(there, (torch.where(there, observed, 0.0) - x) / sigma[:, None], 0.0)
        before = (chosen - 1).clamp_min(0)
        # The window before may not be among those chosen: its end is then the last that was computed.
        place = torch.searchsorted(chosen, before).clamp(max=len(chosen) - 1)
        known = continues & (chosen[place] == before) & stays[place, -1]
        gap = torch.where(known[:, None], (x[place, -1] - x[:, 0]) / sigma, 0.0)
        own = self.heads[member.unique()].square().sum()
        total = missed.square().sum() + _CONTINUITY * gap.square().sum() + own
        return total / (2 * there.sum().clamp_min(1))

    def orbits(self, chosen: Tensor) -> Float[Tensor, "windows instants state"]:
        """The states at the instants of some windows."""
        names = ("t", "smoothed", "sigma", "member", "u")
        t, smoothed, sigma, member, u = (self.get_buffer(name)[chosen] for name in names)
        learner = cast(Ridge, self.learner)
        columns = self.get_buffer("scale")[:, None, None] * learner.columns(self.heads)
        weights = head_weights(learner.net, columns[member])
        d = self.friction.exp()[member]
        pushes = torch.einsum("wisk,wnk->wisn", u, self.gains[member])

        def field(x: Tensor, push: Tensor) -> Tensor:
            rates = learner.net.field_with(weights, learner.net.domain.wrap(x)[:, None])[:, 0]
            v, force = rates.chunk(2, dim=1)
            for j, kind in enumerate(self.kinds):
                force = force - d[:, j, None] * FRICTION[kind].force(v, self.width)
            return torch.cat([v, force + push], dim=1)

        x = smoothed + sigma * self.moved[chosen]
        centre, half = x.new_tensor(learner.net.domain.centre), x.new_tensor(learner.net.domain.half_widths)
        turning = torch.tensor([c.turns for c in learner.net.domain.coordinates], device=x.device)
        half = half.masked_fill(turning, torch.inf)  # angles may go round
        low, high = centre - REACH * half, centre + REACH * half
        states, unit = [x], torch.tensor([0.0, 1.0], dtype=x.dtype, device=x.device)
        for step, push in zip(t.diff(dim=1).unbind(1), pushes.unbind(1), strict=True):

            def rates(part: Tensor, x: Tensor, step: Tensor = step, push: Tensor = push) -> Tensor:
                return step[:, None] * field(x, push[:, round(_STAGES * float(part))])

            x = cast(Tensor, odeint(rates, x, unit, method="rk4"))[-1].clamp(low, high)
            states.append(x)
        return torch.stack(states, dim=1)

    def _leaves(self, x: Float[Tensor, "windows instants state"]) -> Bool[Tensor, "windows instants"]:
        """Which states lie at the edge of the region that orbits are followed in, or are none."""
        return self.learner.net.domain.outside(x, _INSIDE * REACH) | ~x.isfinite().all(-1)

    def _chosen(self, step: int) -> Tensor:
        """All windows, or some in a row, since neighbours are to continue each other."""
        count = len(self.moved)
        if count <= _MOST:
            return torch.arange(count, device=self.moved.device)
        start = (step * _MOST) % count
        return torch.arange(start, min(start + _MOST, count), device=self.moved.device)


def _at_stages(
    signals: Sequence[Signal | None], windows: Windows, inputs: int
) -> Float[Tensor, "windows intervals stages inputs"]:
    """The inputs of each window and interval at the times at which torchdiffeq's "rk4" asks for rates."""
    start, span = windows.t[:, :-1, None], windows.t.diff(dim=1)[..., None]
    t = start + span * torch.arange(_STAGES + 1) / _STAGES
    u = t.new_zeros(*t.shape, inputs)
    for i, signal in enumerate(signals):
        if signal is not None:
            own = windows.trajectory == i
            u[own] = signal(t[own])
    return u


# torchdiffeq's "rk4" is Kutta's 3/8 rule: it asks for rates after 0, 1, 2 and 3 thirds of a step.
_STAGES = 3
# The logarithm of the friction that members begin with.
_SMALL_FRICTION = -4.0


def _scaled(data: RecordedDataModule) -> Sequence[Any]:
    """The points of each member for training, one task each, in units of its scale."""
    points = []
    for one in data.batches.points:
        task = type(one)(one.x[None], one.dxdt[None], None, None if one.free is None else one.free[None])
        scale = task_scale(task)[:, None, None]
        points.append(type(one)(task.x, task.dxdt / scale, None, task.free).to(data.dtype))
    return points
