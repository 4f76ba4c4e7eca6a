"""An adapted system whose orbits meet observed trajectories."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import Forces, Inertia, Signal
from meta_hamiltonian.episodes import Points
from meta_hamiltonian.inference.friction import FIRST, Candidate, Kinds, choose, correlation_time, shares
from meta_hamiltonian.inference.friction_prior import FrictionPrior, Gaussian
from meta_hamiltonian.inference.laplace import Drawn, deviations, draw, in_order
from meta_hamiltonian.inference.sensitivity import Law
from meta_hamiltonian.inference.shooting import Known, Shot, Windows, enough_steps, shoot, stable_steps
from meta_hamiltonian.learners import Learner
from meta_hamiltonian.learners.numerics.least_squares import least_squares
from meta_hamiltonian.learners.numerics.linear_head import head_rows, head_weights
from meta_hamiltonian.models import Adapted, AdaptedSystems
from meta_hamiltonian.observations import CanonicalTrajectory, ObservationError

SAMPLES = 200
"""Systems that are drawn from a posterior."""

# Observations count as no more exact than this part of the state box.
_LEAST_NOISE = 1e-6
# Where p = M dq/dt by definition, the law keeps to it to this part of p, or as well as it can.
_DEFINED = 1e-4
# How many states at which the law keeps to it.
_DEFINED_AT = 400
# Rounds in which steps are made short enough for dry friction.
_FINER = 3
# Orbits that miss the observations by this part of their size do not tell kinds of friction apart.
_LOST = 0.3
# An orbit that is so many boxes of the domain away has run away, though its numbers may be finite.
_RUN_AWAY = 100.0
# The noise is found again where it differs by more than this part, at most so often.
_SAME, _NOISE_ROUNDS = 0.1, 4


class OrbitFit(NamedTuple):
    """What an orbit fit gives.

    - `adapted`: the system.
    - `end`: the state of the last trajectory at its last instant.
    - `samples`, `end_samples`: samples of both from the posterior, which includes the kind of friction.
    - `starts`: the state of each trajectory at its first instant.
    - `noise`: standard deviation of the observations of each coordinate around the orbits.
    - `candidates`: the laws that were compared, with twice the logarithm of their evidence.
    - `sampled_forces`: the forces of as many samples of the law that was chosen, for the errors of its coefficients.
    - `settled`: whether the fit came to an end.
    """

    adapted: Adapted
    end: Float[Tensor, " state"]
    samples: AdaptedSystems
    end_samples: Float[Tensor, "samples state"]
    starts: Float[Tensor, "trajectories state"]
    noise: Float[Tensor, " state"]
    candidates: Sequence[Candidate]
    sampled_forces: Forces
    settled: bool


class NoOrbitError(ObservationError):
    """No orbits of the system could be followed near to what was observed. The message is one line."""


class _Fitted(NamedTuple):
    law: Law
    shot: Shot
    noise: Tensor

    @property
    def friction(self) -> tuple[Float[Tensor, " kinds"], Float[Tensor, " kinds"]]:
        """The coefficients of friction, and their standard deviations."""
        heads, kinds, _ = self.law.sizes
        here = slice(heads, heads + kinds)
        return self.shot.theta[here], deviations(self.shot)[here]


def fit_orbits(
    learner: Learner,
    adapted: AdaptedSystems,
    points: Points,
    paths: Sequence[CanonicalTrajectory],
    kinds: Kinds | None = (),
    width: float = 1.0,
    signals: tuple[Signal, ...] = (),
    inertia: Inertia | None = None,
    said: Callable[[str, float], None] = lambda _what, _done: None,
) -> OrbitFit:
    """Fits head, friction, gains and initial states, so that orbits meet the observations.

    **Arguments:**

    - `learner`: tells in which directions a head may change.
    - `adapted`: the system to begin with, adapted to `points`.
    - `paths`: what the orbits are to meet.
    - `kinds`: the kinds of friction; None is those that the evidence supports.
    - `width`: the speed below which dry friction is smoothed.
    - `signals`: the inputs of each trajectory.
    - `inertia`: where momenta were not observed, the mass matrix M of p = M dq/dt; None where they were.
    - `said`: is told what is being fitted, and which part of the work is done.

    **Raises:** `TypeError` if the network has no linear head, [`NoOrbitError`][].
    """
    expected = tuple(learner.friction.known)
    first = expected or FIRST if kinds is None else kinds
    fits = _Fits(learner, adapted, points, paths, width, signals, inertia, first, said)
    if kinds is None and not fits.lost(first):
        kinds, candidates = choose(fits.left, fits.evidence, expected)
    else:
        kinds = fits.left(first)
        candidates = [Candidate(kinds, 0.0)]
    best = fits.refined(kinds)
    if best.law.kinds != kinds:
        others = [one for one in candidates if one.kinds != kinds]
        kinds = best.law.kinds
        candidates = others or [Candidate(kinds, 0.0)]
    generator = torch.Generator().manual_seed(0)
    # Two kinds at once are hard to tell from one: they count where they were chosen.
    alone = [one for one in candidates if len(one.kinds) < 2 or one.kinds == kinds]
    counts = shares(alone, SAMPLES, expected)
    drawn = [draw(fits.of(one).law, fits.of(one).shot, count, generator) for one, count in counts.items()]
    systems, ends = zip(
        *(_systems(fits.of(one).law, d, signals) for one, d in zip(counts, drawn, strict=True)), strict=True
    )
    forces = _systems(best.law, draw(best.law, best.shot, SAMPLES, generator), signals)[0].forces
    assert forces is not None
    own, end = _systems(best.law, Drawn(best.shot.theta[None], best.shot.ends[-1:]), signals)
    starts = best.shot.nodes[fits.windows.row[:, 0] == 0]
    samples = systems[0] if len(systems) == 1 else AdaptedSystems.joined(systems)
    return OrbitFit(
        Adapted(own), end[0], samples, torch.cat(list(ends)), starts, best.noise, candidates, forces, best.shot.settled
    )


class _Fits:
    """The laws that were fitted to some trajectories, by their kinds of friction."""

    def __init__(
        self,
        learner: Learner,
        adapted: AdaptedSystems,
        points: Points,
        paths: Sequence[CanonicalTrajectory],
        width: float,
        signals: tuple[Signal, ...],
        inertia: Inertia | None,
        first: Kinds,
        said: Callable[[str, float], None],
    ):
        self.first, self.said = first, said
        self.adapted, self.width, self.signals, self.inertia = adapted, width, signals, inertia
        known = {kind: Gaussian(*one) for kind, one in learner.friction.known.items()}
        self.prior = FrictionPrior(known)  # and what the first law has told of it
        self.head = learner.unknowns(adapted, Points(points.x[None], points.dxdt[None]))
        self.box = adapted.net.state_box
        self.windows = Windows.of(paths)
        self.x = torch.cat([path.x for path in paths])
        self.smoothing = torch.stack([path.noise for path in paths]).square().mean(0).sqrt()
        self.fits: dict[Kinds, _Fitted] = {}

    def law(self, kinds: Kinds) -> Law:
        return Law(self.adapted.net, self.adapted.scale.item(), self.head, kinds, self.width, self.signals)

    def of(self, kinds: Kinds) -> _Fitted:
        """The law with these kinds of friction, fitted; it begins with what another one found."""
        if kinds not in self.fits:
            self.said(f"fitting orbits with friction: {' + '.join(kinds) or 'none'}", min(0.1 * len(self.fits), 0.6))
            self.fits[kinds] = self._fit(self.law(kinds))
        return self.fits[kinds]

    def left(self, kinds: Kinds) -> Kinds:
        """The kinds of friction that are left when those that would bring energy in are taken out."""
        fewer = _without_negative(self.of(kinds))
        return kinds if fewer == kinds else self.left(fewer)

    def lost(self, kinds: Kinds) -> bool:
        """Whether the orbits stay far from the observations, whatever friction they have: that of these kinds hardly
        differs from others as long as little is met."""
        return bool((self._noise(self.of(kinds).shot) > _LOST * self.x.std(0)).all())

    def evidence(self, laws: Sequence[Kinds]) -> list[float]:
        """Twice the log evidence for each law: the log likelihood with the noise at its best, less what the
        coefficients of friction cost.

        Residuals of the best law that go together count as one observation, for all of them.
        """
        fits = [self.of(kinds) for kinds in laws]
        floor = (_LEAST_NOISE * self.box).square()  # of solver and head, which are no evidence
        seen = [a for a in range(len(self.box)) if fits[0].shot.residual[..., a].isfinite().any()]
        squares = torch.stack(
            [torch.stack([in_order(one.shot.residual[..., a]).square().mean() for a in seen]) for one in fits]
        )
        logs = (squares + floor[seen]).log()
        best = fits[int(logs.sum(-1).argmin())].shot.residual
        residuals = [in_order(best[..., a]) for a in seen]
        counts = logs.new_tensor([len(r) / correlation_time(r) for r in residuals])
        values = -(logs @ counts)
        price = counts.sum().clamp_min(2.0).log()
        price = price.item()
        costs = [self.prior.cost(one.law.kinds, *one.friction, price) for one in fits]
        return [value - cost for value, cost in zip(values.tolist(), costs, strict=True)]

    def _fit(self, law: Law) -> _Fitted:
        if self.fits:
            near = max(self.fits.values(), key=lambda one: len(set(one.law.kinds) & set(law.kinds)))
            theta, nodes, noise = self._beginning(near, law), near.shot.nodes, near.noise
        else:
            theta = torch.cat([self.head.flat, self._forces_found(law)])
            nodes, noise = self.windows.nodes, self.smoothing.maximum(_LEAST_NOISE * self.box)
        known = self._known(law)
        first = not self.fits
        shot = self._shot(law, theta, nodes, noise, known, robust=not first)
        if first:
            noise = self._noise(shot)
            shot = self._shot(law, shot.theta, shot.nodes, noise, known, robust=True)
        fitted = self._finite(_Fitted(law, shot, noise))
        if law.kinds != self.first:
            return fitted
        prior = self.prior.after(law.kinds, *fitted.friction)
        if prior.known == self.prior.known and not prior.above_zero:
            return fitted
        self.prior = prior
        shot = self._shot(law, shot.theta, shot.nodes, noise, self._known(law), robust=True)
        return self._finite(_Fitted(law, shot, noise))

    def refined(self, kinds: Kinds) -> _Fitted:
        """The law fitted again with the noise that it leaves itself, and not that of the first law that was fitted.

        A coefficient that was hardly above 0 may then lie below 0, and is left out of the law.
        """
        fitted = self.of(kinds)
        known = self._known(fitted.law)
        for _ in range(_NOISE_ROUNDS):
            noise = self._noise(fitted.shot)
            if ((noise / fitted.noise).log().abs() < _SAME).all():
                break
            shot = self._shot(fitted.law, fitted.shot.theta, fitted.shot.nodes, noise, known, robust=True)
            fitted = self._finite(_Fitted(fitted.law, shot, noise))
        if (fewer := _without_negative(fitted)) != kinds:
            return self.refined(fewer)
        self.fits[kinds] = fitted
        return fitted

    def _shot(self, law: Law, theta: Tensor, nodes: Tensor, noise: Tensor, known: Known, robust: bool) -> Shot:
        """The fit by shooting, with steps that are short enough also for the friction that is found."""
        steps = enough_steps(law, self.windows, theta, nodes, noise)
        shot = shoot(law, self.windows, theta, nodes, noise, known, steps, robust)
        for _ in range(_FINER if "dry" in law.kinds else 0):
            needed = stable_steps(law, self.windows, shot.theta, shot.nodes)
            if all(a <= b for a, b in zip(needed, steps, strict=True)):
                break
            steps = [max(a, b) for a, b in zip(needed, steps, strict=True)]
            if shot.settled:
                theta, nodes = shot.theta, shot.nodes
            shot = shoot(law, self.windows, theta, nodes, noise, known, steps, robust)
        return shot

    @staticmethod
    def _finite(fitted: _Fitted) -> _Fitted:
        shot, domain = fitted.shot, fitted.law.net.domain
        if not (shot.cost < torch.inf and shot.design.isfinite().all()) or domain.outside(shot.nodes, _RUN_AWAY).any():
            raise NoOrbitError("no orbit of the adapted system could be followed along the observations")
        return fitted

    def _beginning(self, near: "_Fitted", law: Law) -> Tensor:
        heads, friction, _ = near.law.sizes
        found = dict(zip(near.law.kinds, near.shot.theta[heads : heads + friction], strict=True))
        zero = near.shot.theta.new_zeros(())
        d = [found.get(kind, zero) for kind in law.kinds]
        return torch.cat([near.shot.theta[:heads], *(one[None] for one in d), near.shot.theta[heads + friction :]])

    def _forces_found(self, law: Law) -> Tensor:
        """The coefficients that were found from derivatives."""
        _, friction, gains = law.sizes
        forces = self.adapted.forces
        values = self.x.new_zeros(friction + gains)
        if forces is not None:
            for j, kind in enumerate(forces.kinds):
                if kind in law.kinds:
                    values[law.kinds.index(kind)] = forces.coefficients[0, j]
            values[friction:] = forces.gains[0].flatten()
        return values

    def _known(self, law: Law) -> Known:
        """The priors of head and friction, and where p is defined as M dq/dt, that it is."""
        heads, friction, gains = law.sizes
        of_friction, values = self.prior.rows(law.kinds, self.x)
        rows = torch.block_diag(torch.eye(heads).to(self.x), of_friction)
        prior = Known(torch.nn.functional.pad(rows, (0, gains)), torch.cat([self.x.new_zeros(heads), values]))
        if self.inertia is None or self.adapted.net.head.out_features > 1:
            return prior
        x = self.x[:: max(1, len(self.x) // _DEFINED_AT)]
        n = x.shape[1] // 2
        inside = law.head.latents
        z = {} if inside is None else {"latents": inside.at(inside.value)[None]}
        x_in = law.net.domain.wrap(x)[None]
        rows = head_rows(law.net, law.net.beside(x_in, z))[0].detach().unflatten(0, (len(x), 2 * n))[:, :n]
        rows = law.scale * rows.flatten(0, 1)
        v = self.inertia.velocities(*x.chunk(2, dim=1)).flatten()
        design, target = rows @ law.head.basis, v - (rows @ law.head.centre)[:, 0]
        if inside is not None:  # linearised where the fit begins
            weights = head_weights(law.net, law.scale * (law.head.centre + law.head.basis @ law.head.value)[None]) | z
            slopes = law.net.latent_slopes(weights, x_in)[0, :, :n].detach().flatten(0, 1) @ inside.spread
            design, target = torch.cat([design, slopes], dim=1), target + slopes @ inside.value
        left = target - design @ least_squares(design, target[:, None])[:, 0]
        # All of them together count as one observation of each direction.
        size = left.square().mean().sqrt().maximum(_DEFINED * v.square().mean().sqrt()).clamp_min(1e-300)
        size = size * len(x) ** 0.5
        design = torch.cat([design, design.new_zeros(len(design), friction + gains)], dim=1)
        return Known(torch.cat([prior.rows, design / size]), torch.cat([prior.values, target / size]))

    def _noise(self, shot: Shot) -> Tensor:
        """The noise of the smoothed curves, and besides an error of all coordinates that is the same part of their
        size, so large that the residuals are explained."""
        there = shot.residual.isfinite()
        squares = [shot.residual[..., a][there[..., a]].square() for a in range(len(self.box))]
        sizes = self.x.square().mean(0)
        white = self.smoothing.square()
        counts = white.new_tensor([float(len(one)) for one in squares])
        means = torch.stack([one.mean() if len(one) else white[a] for a, one in enumerate(squares)])

        def excess(part: float) -> float:
            return ((means / (white + part * sizes)) * counts).sum().item() - counts.sum().item()

        floor = _LEAST_NOISE * self.box
        if excess(0.0) <= 0:  # less than was thought
            factor = ((means / white) * counts).sum() / counts.sum()
            return (white * factor).sqrt().maximum(floor)
        low, high = 1e-30, 1e6
        for _ in range(200):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if excess(middle) > 0 else (low, middle)
        return (white + high * sizes).sqrt().maximum(floor)


def _without_negative(fitted: _Fitted) -> Kinds:
    """Its kinds of friction, but for the one whose coefficient is furthest below 0, if one is."""
    heads, friction, _ = fitted.law.sizes
    d = fitted.shot.theta[heads : heads + friction]
    if not (d < 0).any():
        return fitted.law.kinds
    return tuple(kind for i, kind in enumerate(fitted.law.kinds) if i != int(d.argmin()))


def _systems(law: Law, drawn: Drawn, signals: tuple[Signal, ...]) -> tuple[AdaptedSystems, Tensor]:
    v, d, g = law.split(drawn.theta)
    columns = law.head.centre + law.head.basis @ v
    scale = drawn.theta.new_full((len(drawn.theta),), law.scale)
    forces = Forces(law.kinds, d, law.width, g, signals[-1] if signals else None)
    z = law.latents(drawn.theta)
    own = head_weights(law.net, columns) | ({} if z is None else {"latents": z})
    return AdaptedSystems(law.net, own, scale, forces), drawn.ends
