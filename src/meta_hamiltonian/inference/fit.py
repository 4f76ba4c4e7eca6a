"""From a user's observations to the dynamics of their system: which points are fitted, and how."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.config.asked import AUTO, FITS, check_fit, parse_friction
from meta_hamiltonian.dynamics import FRICTION, Domain, Forces, Inertia, Terms
from meta_hamiltonian.episodes import Points
from meta_hamiltonian.inference.friction import Candidate, Kinds
from meta_hamiltonian.inference.holdout import ENOUGH, HeldOut, error_at_left_out, errors_at_the_end
from meta_hamiltonian.inference.interruptions import without_interruptions
from meta_hamiltonian.inference.momentum import check_momentum
from meta_hamiltonian.inference.orbit_fit import NoOrbitError
from meta_hamiltonian.inference.remarks import about_friction, badly_met, missed, outside, several_answers
from meta_hamiltonian.inference.solution import WAYS, Said, Solution, Task, from_points, of_trajectories, silent
from meta_hamiltonian.inference.widened import MOST, widened
from meta_hamiltonian.learners import Learner, task_scale
from meta_hamiltonian.learners.loss import in_error_scales
from meta_hamiltonian.learners.posterior_heads import open_latents
from meta_hamiltonian.learners.quality import usual_error
from meta_hamiltonian.models import Adapted, AdaptedSystems
from meta_hamiltonian.observations import Derivatives, ObservationError, Trajectory, signals_of
from meta_hamiltonian.observations.inertias import Inertias
from meta_hamiltonian.observations.lagrange import inertia_of

# The orbit must be worse by this factor at what was held out before derivatives are fitted instead.
_CLEARLY = 2.0


@dataclasses.dataclass(frozen=True)
class Fit:
    """A new system, and how well it is known.

    - `before`, `adapted`: the dynamics without and with the observations.
    - `samples`: systems drawn from the posterior, where there is one; `start_samples`: where each of them starts.
    - `x`, `dxdt`: the states `[K, 2n]` that were fitted, and their derivatives.
    - `fitted`: the derivatives of the adapted system there, inputs included.
    - `how`: `"derivatives"` or `"orbit"`.
    - `held_out`: for trajectories, the RMS distance of the end of each from the orbit through its beginning, in units
        of the state box, for each way to fit.
    - `start`, `start_time`: the last observed state, from which a prediction goes on.
    - `noise`: standard deviation of the observations around the orbits, 0 where states are taken for exact.
    - `candidates`: the kinds of friction that were compared, the likeliest first.
    - `sampled_forces`: friction and gains of samples of the law that was chosen; None without a posterior.
    - `residual_before`, `residual`: RMS of the error of dx/dt at `x`, relative to that of dx/dt.
    - `usual`: the residual for held-out systems of the learner's training, with heads fitted in the same way; None
        where it is not known.
    - `left_out`: the residual at points that the learner was not adapted to, for a learner without a posterior.
    - `tail`: RMS error of what was held out of the last trajectory, in standard deviations of each coordinate, and
        how long that was; None where nothing was held out.
    - `surprise`: the error of `tail` in units of the error that the posterior predicts; None without a posterior, too.
    - `steps`: gradient steps that were taken.
    - `inertia`: the mass matrix M of p = M dq/dt; None where momenta were observed and the family tells no such matrix.
    - `notes`, `warnings`: what was assumed, and what may be wrong.
    """

    before: Adapted
    adapted: Adapted
    samples: AdaptedSystems | None
    x: Float[Tensor, "points state"]
    dxdt: Float[Tensor, "points state"]
    fitted: Float[Tensor, "points state"]
    how: str
    held_out: Mapping[str, float]
    start: Float[Tensor, " state"]
    start_samples: Float[Tensor, "samples state"] | None
    start_time: float
    noise: Float[Tensor, " state"]
    candidates: Sequence[Candidate]
    sampled_forces: Forces | None
    residual_before: float
    residual: float
    usual: float | None
    left_out: float | None
    tail: tuple[float, float] | None
    surprise: float | None
    steps: int
    inertia: Inertia | None
    notes: Sequence[str]
    warnings: Sequence[str]

    def starting_from(self, x: Float[Tensor, " state"]) -> "Fit":
        """The same fit with a prediction from this state: at time 0, or where inputs act, at the time of the fit."""
        x = x.to(self.start.device)
        start_samples = None if self.samples is None else x.expand(len(self.samples.scale), -1)
        forces = self.adapted.systems.forces
        time = 0.0 if forces is None or forces.signal is None else self.start_time
        return dataclasses.replace(self, start=x, start_samples=start_samples, start_time=time)

    def to(self, device: torch.device | str) -> "Fit":
        """The same on another device."""
        changed: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Adapted):
                changed[field.name] = Adapted(value.systems.to(device))
            elif isinstance(value, (Tensor, AdaptedSystems, Forces)):
                changed[field.name] = value.to(device)
        return dataclasses.replace(self, **changed)

    @property
    def missed(self) -> float:
        """What the fit leaves of the observations, as a part of their size."""
        if self.how == "derivatives":
            return self.residual
        return (self.noise / self.x.std(0)).min().item()

    @property
    def friction(self) -> Mapping[str, tuple[float, float]]:
        """The coefficient of each kind that was found, and its standard deviation, not a number without a posterior."""
        forces = self.adapted.systems.forces
        if forces is None:
            return {}
        deviations = torch.full_like(forces.coefficients[0], torch.nan)
        if self.sampled_forces is not None and forces.kinds:
            deviations = self.sampled_forces.coefficients.std(0)
        each = zip(forces.kinds, forces.coefficients[0].tolist(), deviations.tolist(), strict=True)
        return {kind: (value, deviation) for kind, value, deviation in each}

    @property
    def gains(self) -> Sequence[tuple[float, float]]:
        """The gain of each momentum from each input, and its standard deviation."""
        forces = self.adapted.systems.forces
        if forces is None or forces.signal is None:
            return []
        deviations = torch.full_like(forces.gains[0], torch.nan)
        if self.sampled_forces is not None:
            deviations = self.sampled_forces.gains.std(0)
        return list(zip(forces.gains[0].flatten().tolist(), deviations.flatten().tolist(), strict=True))


def fit(
    learner: Learner,
    observations: Derivatives | Sequence[Trajectory],
    how: str = "auto",
    inertia: float | Sequence[float] = 1.0,
    steps: int | None = None,
    validation_loss: float | None = None,
    friction: str = AUTO,
    said: Said = silent,
    same_momenta: bool = False,
) -> Fit:
    """Adapts a learner to a new system.

    **Arguments:**

    - `learner`: trained. All is computed where it is.
    - `observations`: states with their derivatives, or trajectories.
    - `how`: for trajectories: `"derivatives"` fits derivatives estimated from them, `"orbit"` the orbits themselves,
        through the ODE solver; `"auto"` fits the orbits, unless derivatives predict the held-out end of the
        trajectories clearly better.
    - `inertia`: where p was not observed, p = inertia · dq/dt; one number, or one for each coordinate. Where
        the family has mass matrices, the observations tell the member's own instead.
    - `steps`: gradient steps; None is as many as in training.
    - `validation_loss`: that of the training, which tells whether the system is of the family; None where not known.
    - `friction`: `"none"`, `"viscous"`, `"quadratic"`, `"dry"`, or several joined by `+`; `"auto"` takes what the
        evidence supports, see [`choose`][].
    - `said`: is told what is being done, and which part of the work is done, such as by a progress bar.
    - `same_momenta`: the momenta of the learner's family were not observed either, but are p = inertia · dq/dt by
        definition; otherwise the fit checks whether any member of the family has such momenta.

    **Raises:** `ValueError` for arguments that are not allowed or do not fit the observations.
    """
    check_fit(how)
    kinds = parse_friction(friction)
    n = learner.net.state_dim // 2
    each = list(inertia) if isinstance(inertia, Sequence) else [inertia] * n
    if len(each) != n or not all(0 < one < math.inf for one in each):
        several = "" if n == 1 else f", or {n} of them, one for each coordinate"
        raise ValueError(f"inertia must be a finite number above 0{several}, got {inertia!r}")
    if steps is not None and steps < 0:
        raise ValueError(f"steps must be at least 0, got {steps}")
    domain = learner.net.domain
    if isinstance(observations, Derivatives):
        found = _of_derivatives(learner, observations, how, kinds, steps, validation_loss)
    else:
        unknown = any(trajectory.p is None for trajectory in observations)
        if unknown and not same_momenta and not domain.defines_momenta:
            check_momentum(learner, torch.tensor(each, dtype=torch.float64), usual_error(learner, validation_loss))
        own = Inertias(tuple(each), domain.kinetic).of(observations)
        found = _of_trajectories(learner, observations, how, own, kinds, steps, validation_loss, said)
    if domain.kinetic is None or domain.defines_momenta:
        return found
    own = inertia_of(domain.kinetic, observations)
    told = f"p is M(q) dq/dt with {own.words(domain.names[:n])}, found from the momenta."
    return dataclasses.replace(found, inertia=own, notes=[*found.notes, told])


def _of_derivatives(
    learner: Learner,
    observations: Derivatives,
    how: str,
    kinds: Kinds | None,
    steps: int | None,
    validation_loss: float | None,
) -> Fit:
    if how == "orbit":
        raise ObservationError("fit=orbit needs a trajectory, with a column t and without dq and dp")
    points = Points(torch.from_numpy(observations.x), torch.from_numpy(observations.dxdt))
    few = points.x.numel() // 2 <= len(FRICTION) + points.x.shape[1]
    task = Task(points).to(learner.device)
    solution = from_points(learner, task, () if kinds is None and few else kinds, steps)
    return _reported(learner, task, solution, 0.0, "derivatives", None, [], kinds, steps, validation_loss)


def _of_trajectories(
    learner: Learner,
    observations: Sequence[Trajectory],
    how: str,
    inertia: Inertia,
    kinds: Kinds | None,
    steps: int | None,
    validation_loss: float | None,
    said: Said,
) -> Fit:
    if how == "orbit" and not learner.net.has_head:
        raise ValueError("fit=orbit changes the head of a network, and the true law has none; use fit=derivatives")
    if all((trajectory.q == trajectory.q[0]).all() for trajectory in observations):
        raise ObservationError("nothing moves in these observations: give a recording of motion")
    notes = []
    defined = None
    if any(trajectory.p is None for trajectory in observations):
        defined = inertia
        if not learner.net.domain.defines_momenta:
            m = ", ".join(f"{one:g}" for one in dict.fromkeys(inertia.values))
            notes.append(f"p was not observed: it is {m} · dq/dt, so energies are in units of that inertia.")
        else:
            m = inertia.words(learner.net.domain.names[: learner.net.state_dim // 2])
            notes.append(
                f"p was not observed: it is M(q) dq/dt with {m}, found from the Euler-Lagrange equations and from the "
                "other members."
            )
    signals = signals_of(observations)
    said("smoothing", 0.0)
    observations, paths, interrupted = without_interruptions(learner, observations, signals, inertia, steps)
    notes += interrupted
    signals = signals_of(observations)
    task = of_trajectories(paths, signals, defined, learner.device)
    used, every = len(task.points.x), sum(len(path.t) for path in paths)
    best = "" if used == every else f", and is used at {used} of {every} instants, where it is known best"
    notes.append(f"dx/dt was estimated from the trajectories by regression splines{best}.")
    held_out: HeldOut | None = None
    few = min(len(trajectory.t) for trajectory in observations) < ENOUGH
    if how == "auto" and (few or not learner.net.has_head):
        how = "derivatives"
        if few:
            notes.append(f"fit=derivatives: a trajectory has fewer than {ENOUGH} instants, too few to compare fits.")
    if few and kinds is None:
        kinds, undecided = (), None
    else:
        undecided = kinds
    if how == "auto":
        try:
            orbit = WAYS["orbit"](learner, task, kinds, steps, said)
            said("predicting what was held out", 0.7)
            held_out = errors_at_the_end(learner, observations, FITS[1:], inertia, steps, orbit.kinds, signals)
        except NoOrbitError as error:
            orbit = None
            notes.append(f"fit=derivatives, since {error}.")
        how = _better(held_out.errors, notes) if held_out else "derivatives"
        if orbit is None:
            solution = WAYS[how](learner, task, kinds, steps, said)
        elif how == "orbit":
            solution = orbit
        else:
            solution = WAYS[how](learner, task, orbit.kinds, steps, said)._replace(candidates=orbit.candidates)
    else:
        solution = WAYS[how](learner, task, kinds, steps, said)
    if held_out is None and solution.samples is None and not few:  # nothing else tells how good it is
        held_out = errors_at_the_end(learner, observations, [how], inertia, steps, solution.kinds, signals)
    start_time = paths[-1].t[-1].item()
    return _reported(learner, task, solution, start_time, how, held_out, notes, undecided, steps, validation_loss)


def _better(held_out: Mapping[str, float], notes: list[str]) -> str:
    """The way to fit that is to be preferred, and why.

    A quarter of a recording is a rough judge. The orbit uses every observation: it has to fail clearly.
    """
    how = "orbit" if held_out["orbit"] <= _CLEARLY * held_out["derivatives"] else "derivatives"
    errors = ", ".join(f"{name} {error:.2g}" for name, error in held_out.items())
    if how == min(held_out, key=lambda name: held_out[name]):
        notes.append(f"fit={how} predicts the end of the trajectories better (RMS in state boxes: {errors}).")
    else:
        other = min(held_out, key=lambda name: held_out[name])
        notes.append(
            f"fit={how}, which uses all observations: fit={other} predicts the end of the trajectories hardly better "
            f"(RMS in state boxes: {errors})."
        )
    return how


def _reported(
    learner: Learner,
    task: Task,
    solution: Solution,
    start_time: float,
    how: str,
    held_out: HeldOut | None,
    notes: Sequence[str],
    kinds: Kinds | None,
    steps: int | None,
    validation_loss: float | None,
) -> Fit:
    """The fit with what is to be said of it."""
    points, factor = task.points, learner.band_factor.item()
    solution = widened(solution, factor)
    if factor > 1 and solution.samples is not None:
        notes = [
            *notes,
            f"Bands are widened by the factor {factor:.3g}: forecasts of the family's own recordings missed what came "
            "later by so much more than their fits predict.",
        ]
    before = learner.adapt(points.x, points.dxdt, 0)
    rates = _rates(solution.adapted, points, task.u)
    residual = _error(rates, points, learner.net.domain)
    usual = usual_error(learner, validation_loss, task_scale(points).item())
    if how == "orbit" and learner.misfit is not None:
        usual = learner.misfit
    left_out = None
    if solution.samples is None:
        notes = [*notes, "There are no credible bands: they need the closed-form head (algo=ridge), or fit=orbit."]
        if held_out is None:
            left_out = error_at_left_out(learner, points, Terms(solution.kinds, task.width, task.u), steps)
            left_out = usual if left_out is None else left_out
    warnings = [*outside(learner, points)]
    if factor >= MOST and solution.samples is not None:
        warnings.append(
            f"Forecasts of the family's own recordings missed by more than {MOST:g} times what their fits predict: do "
            "not trust the bands."
        )
    if not solution.settled:
        warnings.append(
            "The fit of the orbits was still getting better when it was stopped; do not trust the prediction."
        )
    warnings += several_answers(solution.shares, how)
    if solution.samples is not None and learner.net.latents and len(solution.shares) == 1:
        warnings += open_latents(learner.left_open(solution.samples.parameters["latents"]))
    warnings += missed(learner, task, solution, usual) if how == "orbit" else badly_met(residual, usual)
    found = Fit(
        before=before,
        adapted=solution.adapted,
        samples=solution.samples,
        x=points.x,
        dxdt=points.dxdt,
        fitted=rates,
        how=how,
        held_out={} if held_out is None else held_out.errors,
        start=solution.end,
        start_samples=solution.end_samples,
        start_time=start_time,
        noise=solution.noise,
        candidates=solution.candidates,
        sampled_forces=solution.sampled_forces,
        residual_before=_error(before.field(points.x), points, learner.net.domain),
        residual=residual,
        usual=usual,
        left_out=left_out,
        tail=None if held_out is None else (held_out.relative[how], held_out.duration),
        surprise=None if held_out is None else held_out.surprise.get(how),
        steps=learner.default_steps if steps is None else steps,
        inertia=task.inertia,
        notes=notes,
        warnings=warnings,
    )
    about = about_friction(found.friction, solution, how, kinds, learner.friction.known)
    return dataclasses.replace(found, notes=[*notes, *about])


def _rates(adapted: Adapted, points: Points, u: Tensor | None) -> Float[Tensor, "points state"]:
    """dx/dt at the points, with the inputs there."""
    rates = adapted.field(points.x)
    forces = adapted.systems.forces
    if u is None or forces is None:
        return rates
    dq, dp = rates.chunk(2, dim=-1)
    return torch.cat([dq, dp + u @ forces.gains[0].mT], dim=-1)


def _error(rates: Float[Tensor, "points state"], points: Points, domain: Domain) -> float:
    errors = in_error_scales(Points(points.x, rates - points.dxdt), domain).dxdt
    return (errors.square().mean().sqrt() / task_scale(in_error_scales(points, domain))).item()
