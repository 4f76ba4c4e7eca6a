"""The interface of every learner."""

import abc
import copy
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import scipy.optimize
import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.config import check_arguments
from meta_hamiltonian.dynamics import Signal, Terms
from meta_hamiltonian.episodes import Episodes, Points
from meta_hamiltonian.learners.loss import field_loss, in_error_scales, rescaled, task_scale
from meta_hamiltonian.learners.numerics.family_friction import FamilyFriction
from meta_hamiltonian.learners.numerics.family_heads import FamilyHeads
from meta_hamiltonian.learners.numerics.linear_head import balanced, head_columns, head_problem, head_rows, own_head
from meta_hamiltonian.learners.numerics.posterior import Posterior
from meta_hamiltonian.models import Adapted, AdaptedSystems, FieldNetwork

# How often a learner and the coefficients of forces are fitted in turn.
_TURNS = 6
# States that tell what features are like all over the domain.
_STATES = 512
# Held-out members that tell how heads are distributed.
_MEMBERS = 100


class Latents(NamedTuple):
    """What a system's latents z are made of: z = mean + spread u, with u ~ N(0, I) before it is observed.

    - `mean`, `spread`: the same for all systems of the family.
    - `value`: u of one system.
    """

    mean: Float[Tensor, " latents"]
    spread: Float[Tensor, "latents latents"]
    value: Float[Tensor, " latents"]

    def at(self, u: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch latents"]:
        """z."""
        return self.mean + u @ self.spread.mT


class Unknowns(NamedTuple):
    """What a system's head w is made of: w = centre + basis v, with v ~ N(0, I) before it is observed.

    - `centre`, `basis`: the same for all systems of the family.
    - `value`: v of one system.
    - `latents`: those of its law, if there are any.
    """

    centre: Float[Tensor, "features outputs"]
    basis: Float[Tensor, "features directions"]
    value: Float[Tensor, "directions outputs"]
    latents: Latents | None = None

    @property
    def flat(self) -> Float[Tensor, " numbers"]:
        """v, and u of the latents after it."""
        inside = [] if self.latents is None else [self.latents.value]
        return torch.cat([self.value.flatten(), *inside])


class Forced(NamedTuple):
    """A system on which friction or inputs act.

    - `adapted`: the system, one in a batch.
    - `samples`: drawn from its posterior, where the learner has one and they were asked for.
    - `log_evidence`: how well the forces explain what was observed; None where the learner does not know.
    - `shares`: the probability of each of several answers, the likeliest first; `adapted` is the likeliest.
    """

    adapted: AdaptedSystems
    samples: AdaptedSystems | None
    log_evidence: float | None
    shares: tuple[float, ...] = (1.0,)


class StepCost(NamedTuple):
    """Roughly what an outer step costs, for a learner whose step can be compiled.

    - `flop`: floating-point operations for each point and each weight of the hidden layers.
    - `passes`: through the network and back, each of which is compiled for itself.
    """

    flop: int
    passes: int


class Learner(nn.Module, abc.ABC):
    """A network and a way to adapt it to a new system.

    To add one, write `task_losses` and `adaptations`.
    """

    has_posterior: ClassVar[bool] = False
    """Whether `sample` draws systems from a posterior, which credible bands need."""
    solves_for_head: ClassVar[bool] = False
    """Whether the head is solved for in closed form, so that the outer loop may take second-order steps."""
    meta_trained: ClassVar[bool] = True
    """Whether there is anything to train before a new system is observed."""
    shares_head: ClassVar[bool] = False
    """Whether systems differ in hidden layers alone, so that no weight of the head is a system's own."""
    validates_adapted: ClassVar[bool] = True
    """Whether the validation loss is that of predictions after adaptation."""

    def __init__(self, net: FieldNetwork, scale: str = "none"):
        """**Arguments:**

        - `net`: the network; its parameters are meta-learned.
        - `scale`: `"task"` divides a task's derivatives by the RMS of those in its support set; `"none"` does not.
        """
        super().__init__()
        check_arguments(type(self), scale=scale)
        self.net = net
        self.scale = scale
        self.friction = FamilyFriction()
        self.band_factor: Tensor
        """The factor by which bands are widened, since forecasts of the family's own recordings missed by so much more
        than their fits predict; 1 for a family with a formula."""
        self.register_buffer("band_factor", torch.ones(()))
        if net.has_head and not self.solves_for_head:
            self.heads = FamilyHeads(*head_columns(own_head(net)).shape)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        state_dict.setdefault(f"{prefix}band_factor", self.band_factor)  # checkpoints of earlier versions have none
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    @property
    def device(self) -> torch.device:
        """Where its numbers are, and where systems are adapted."""
        return self.net.state_box.device

    @abc.abstractmethod
    def task_losses(self, episodes: Episodes) -> Float[Tensor, " tasks"]:
        """The query loss of every task after adaptation to its support set; differentiable."""

    def forward(self, episodes: Episodes) -> Float[Tensor, " tasks"]:
        """`task_losses`, for `torch.func.functional_call`."""
        return self.task_losses(episodes)

    @abc.abstractmethod
    def adaptations(self, support: Points, steps: int) -> Iterator[Mapping[str, Tensor]]:
        """The adapted weights of every task, after 0, 1, ... `steps` gradient steps."""

    def meta_loss(self, episodes: Episodes) -> Float[Tensor, ""]:
        """Equation (4), the query loss after adaptation, here the mean over the tasks of the meta-batch.

        With `scale="task"`, in units of each task's squared scale.
        """
        return self.mean_loss(self.scaled(episodes))

    def scaled(self, episodes: Episodes) -> Episodes:
        """The same tasks in the units that the learner is trained in, see `scale`."""
        return rescaled(episodes) if self.scale == "task" else episodes

    def prepare(self, tasks: int | None) -> None:
        """Before training, makes room for what a learner remembers of each task of the training set; here nothing.

        **Arguments:** `tasks`: how many there are; None for an endless stream.
        """

    def validation_loss(self, episodes: Episodes) -> Float[Tensor, ""]:
        """The loss of held-out tasks, by which the best checkpoint is chosen."""
        return self.meta_loss(episodes)

    def mean_loss(self, episodes: Episodes) -> Float[Tensor, ""]:
        """The mean of `task_losses`; a learner may take it in parts."""
        return self.task_losses(episodes).mean()

    def adapt(
        self,
        x: Float[Tensor, "points state"],
        dxdt: Float[Tensor, "points state"],
        steps: int | None = None,
    ) -> Adapted:
        """Adapts to one new system from observed points.

        **Arguments:**

        - `x`: observed states `[K, 2n]` in canonical coordinates, K at least 1.
        - `dxdt`: their time derivatives `[K, 2n]`.
        - `steps`: gradient steps, at least 0; None is as many as in training.

        **Returns:**

        The [`Adapted`][] system. The learner itself is not changed.

        **Raises:** `ValueError` for shapes or values that cannot be observations.
        """
        steps = self.default_steps if steps is None else steps
        check_observations(x, dxdt, self.net.state_dim)
        (adapted,) = self.adapt_tasks(Points(x[None], dxdt[None]), [steps])
        return Adapted(adapted)

    def adapt_tasks(self, support: Points, steps: Sequence[int]) -> Iterator[AdaptedSystems]:
        """Adapts to many systems at once, in float64.

        **Arguments:**

        - `support`: K observed points of each of T systems.
        - `steps`: increasing numbers of gradient steps.

        **Returns:**

        Lazily, the adapted systems after each of them.
        """
        if any(s < 0 for s in steps) or list(steps) != sorted(set(steps)):
            raise ValueError(f"steps must be increasing numbers of at least 0, got {list(steps)}")
        learner = copy.deepcopy(self).double().requires_grad_(False)
        support, scale = self.in_units(support)
        for step, parameters in enumerate(learner.adaptations(support, max(steps, default=0))):
            if step in steps:
                yield AdaptedSystems(learner.net, parameters, scale)

    def in_units(self, support: Points) -> tuple[Points, Float[Tensor, " tasks"]]:
        """The support set in float64, its derivatives in units of the scale, and the scale."""
        support = support.to(dtype=torch.float64, device=self.device)
        scale = task_scale(support) if self.scale == "task" else support.dxdt.new_ones(len(support.x))
        x = self.net.domain.wrap(support.x)
        return dataclasses.replace(support, x=x, dxdt=support.dxdt / scale[:, None, None]), scale

    def sample(
        self, x: Float[Tensor, "points state"], dxdt: Float[Tensor, "points state"], count: int = 200, seed: int = 0
    ) -> AdaptedSystems:
        """Draws systems from the posterior: credible bands of anything are quantiles over them.

        **Arguments:** those of [`adapt`][], and how many samples, from which seed.

        **Returns:**

        A batch of `count` systems that all explain the observations.

        **Raises:** `TypeError` unless `has_posterior`.
        """
        check_observations(x, dxdt, self.net.state_dim)
        return next(iter(self.sample_tasks(Points(x[None], dxdt[None]), count, seed)))

    def left_open(self, z: Float[Tensor, "samples latents"]) -> float:
        """How widely latents of a posterior are spread, as a part of what they are over the family; 0 without any."""
        return 0.0

    def sample_tasks(self, support: Points, count: int, seed: int = 0) -> Iterator[AdaptedSystems]:
        """Draws systems from the posterior of each of many tasks."""
        raise TypeError(f"{type(self).__name__} has no posterior, and so no credible bands; train one with algo=ridge")

    def adapt_forced(
        self,
        points: Points,
        terms: Terms,
        signal: Signal | None = None,
        steps: int | None = None,
        samples: int = 0,
        seed: int = 0,
    ) -> Forced:
        """Adapts to a system on which friction or measured inputs act: dp/dt = −∂H/∂q − Σ d_j ∂R_j/∂v + Σ g_k u_k.

        Here the learner and the coefficients take turns: each is fitted to what the other leaves of the observed
        rates. A learner that solves for its head solves for both at once.

        **Arguments:**

        - `points`: those of one system.
        - `terms`: which forces may act.
        - `signal`: the inputs as a function of time, for orbits.
        - `steps`: gradient steps; None is as many as in training.
        - `samples`: how many systems to draw from the posterior, from which `seed`.
        """
        n, count = self.net.state_dim // 2, terms.count(self.net.state_dim // 2)
        x, dxdt = points.x.double(), points.dxdt.double()
        least = [0.0] * len(terms.kinds) + [-math.inf] * (count - len(terms.kinds))
        columns = terms.columns(dxdt[:, :n])
        d, adapted = dxdt.new_zeros(count), self.adapt(points.x, points.dxdt, steps)
        for turn in range(_TURNS if count else 0):
            if turn:
                given = torch.cat([dxdt[:, :n], dxdt[:, n:] - columns @ d], dim=-1)
                adapted = self.adapt(x, given, steps)
            dq, dp = adapted.field(x).chunk(2, dim=-1)
            columns = terms.columns(dq)
            left = (dxdt[:, n:] - dp).flatten()
            bounds = (least, [math.inf] * count)
            problem = (columns.flatten(0, 1).cpu().numpy(), left.cpu().numpy())
            d = torch.from_numpy(scipy.optimize.lsq_linear(*problem, bounds, method="bvls").x).to(left)
        kept = (d[: len(terms.kinds)] > 0).tolist()  # a kind that would bring energy in is left out
        d = torch.cat([d[: len(kept)][torch.tensor(kept, dtype=torch.bool)], d[len(kept) :]])
        kinds = tuple(kind for kind, there in zip(terms.kinds, kept, strict=True) if there)
        forces = terms._replace(kinds=kinds).forces(d[None], n, signal)
        return Forced(dataclasses.replace(adapted.systems, forces=forces), None, None)

    def unknowns(self, adapted: AdaptedSystems, points: Points) -> Unknowns:
        """In which directions the head of one system may change, and by how much, before orbits are fitted.

        Here the heads are those of the family on the features of the body as it was trained, see [`FamilyHeads`][].
        Where the heads were not estimated, any head is possible, and smooth ones are likelier.

        **Arguments:**

        - `adapted`: one system.
        - `points`: those of one task, to which it was adapted.

        **Raises:** `TypeError` if the network has no linear head.
        """
        if not self.net.has_head:
            raise TypeError(f"{type(self.net).__name__} has no linear head, so that its orbits cannot be fitted")
        heads, size, posterior, scale = self._of_the_family(points)
        size = size * (scale / adapted.scale).item()  # forces may have changed that of the adapted system
        return Unknowns(size * heads.mean, size * heads.factor, posterior.mean[0])

    def noise_of(self, points: Points) -> float | None:
        """RMS of the noise of observed rates, relative to that of the rates: the part that no likely head explains.

        **Arguments:** `points`: of one task.

        **Returns:** None where it is not known how heads are distributed.
        """
        if not self.net.has_head or self.solves_for_head or not self.heads.known:
            return None
        _, size, posterior, scale = self._of_the_family(points)
        observed = task_scale(in_error_scales(points, self.net.domain))
        return size * posterior.noise.sqrt().item() * (scale / observed).item()

    @property
    def misfit(self) -> float | None:
        """The error of the family's fields with the best heads on the features of the body, as a part of the fields.

        None where it is not known, or where adaptation finds these heads anyhow.
        """
        if not self.net.has_head or self.solves_for_head or self.scale != "task" or not self.heads.known:
            return None
        return self.heads.noise.sqrt().item()

    def _of_the_family(self, points: Points) -> tuple[FamilyHeads, float, Posterior, Float[Tensor, " tasks"]]:
        """How heads are distributed, their scale and the posterior for one task, and the scale of its rates."""
        net = copy.deepcopy(self.net).double().requires_grad_(False)
        heads = copy.deepcopy(self.heads)
        if not heads.known:
            rows = balanced(net, head_rows(net, net.domain.sobol(_STATES).to(self.device)))
            heads.suppose(head_columns(own_head(net)), rows)
        support, scale = self.in_units(points)
        features, targets = head_problem(net, support)
        blocks = [(balanced(net, features), balanced(net, targets))]
        if net.head.out_features == 1:
            halves = [part.unflatten(1, (-1, 2, net.state_dim // 2)).unbind(2) for part in blocks[0]]
            blocks = [(a.flatten(1, 2), y.flatten(1, 2)) for a, y in zip(*halves, strict=True)]
        size, posterior = heads.likeliest(blocks)
        return heads, size, posterior, scale

    def family_heads(self) -> tuple[Float[Tensor, "features outputs"], Float[Tensor, "features directions"]] | None:
        """The mean head of the family, and a factor of the covariance of heads; None where that is not known."""
        return None

    def likely_latents(self, count: int) -> list[Float[Tensor, " latents"] | None]:
        """`count` latents, spread as those of the family are; None alone for a law without latents."""
        return [None]

    def own_numbers(self, adapted: AdaptedSystems) -> Float[Tensor, "systems numbers"]:
        """What tells one adapted system from another: its head, in the units of dx/dt, and its latents."""
        heads = (adapted.scale[:, None, None] * self._columns(adapted)).flatten(1)
        latents = adapted.parameters.get("latents")
        return heads if latents is None else torch.cat([heads, latents], dim=1)

    def _columns(self, adapted: AdaptedSystems) -> Float[Tensor, "systems features outputs"]:
        weights = {name: adapted.parameters.get(name, own) for name, own in own_head(adapted.net).items()}
        columns = head_columns(weights)
        return columns.expand(len(adapted.scale), *columns.shape[-2:])

    @property
    def unknowns_of_a_member(self) -> int:
        """How many numbers adaptation finds for one system: here the weights of the head, or its free directions."""
        features, outputs = head_columns(own_head(self.net)).shape
        heads = self.family_heads()
        return outputs * (features if heads is None else heads[1].shape[1])

    @property
    def default_steps(self) -> int:
        """The gradient steps of `adapt` when it is not told."""
        return 1

    @property
    def step_cost(self) -> StepCost | None:
        """What decides whether it is worth the time to compile a step; None where it cannot be compiled."""
        return None

    def calibrate(self, held_out: Episodes) -> None:
        """Estimates from held-out tasks what the outer loop does not learn: here how heads are distributed."""
        if not self.net.has_head or self.solves_for_head:
            return
        members = held_out[:_MEMBERS]
        query = self.scaled(members).query
        with torch.no_grad():
            features, targets = (balanced(self.net, part) for part in head_problem(self.net, query))
        self.heads.estimate(features, targets, query.counts * features.shape[1] / query.x.shape[1])

    def tested_steps(self, steps: Sequence[int]) -> Sequence[int]:
        """Which numbers of gradient steps have a meaning, of those that are asked for."""
        return steps

    def query_losses(self, parameters: Mapping[str, Tensor], query: Points) -> Float[Tensor, " tasks"]:
        """Equation (2) on every task's query set, with that task's weights."""
        return field_loss(self.net.field_with(parameters, query.x), query.dxdt, query.mask)


def check_observations(x: Tensor, dxdt: Tensor, state_dim: int) -> None:
    """**Raises:** `ValueError` for shapes or values that cannot be observations of one system."""
    if x.dim() != 2 or x.shape[1] != state_dim or x.shape != dxdt.shape or len(x) < 1:
        raise ValueError(
            f"x and dxdt must both have shape [K, {state_dim}] with K at least 1, "
            f"got {list(x.shape)} and {list(dxdt.shape)}"
        )
    if not (x.isfinite().all() and dxdt.isfinite().all()):
        raise ValueError("x and dxdt must be finite; remove the points that hold NaN or infinity")
