"""What `adapt` leaves: the prediction, the figures and the report of one system, and the system itself."""

import copy
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from meta_hamiltonian.dynamics import FRICTION
from meta_hamiltonian.figures import save
from meta_hamiltonian.figures.adapted import (
    around,
    energy_budget,
    energy_contours,
    field_uncertainty,
    learned_field,
    predicted_orbit,
    residuals,
)
from meta_hamiltonian.figures.projections import phase_portraits, positions
from meta_hamiltonian.figures.slices import energy_slice, field_slices, uncertainty_slices
from meta_hamiltonian.figures.spacetime import has_sites, predicted_spacetime
from meta_hamiltonian.inference import Fit
from meta_hamiltonian.inference.bands import where_next
from meta_hamiltonian.inference.remarks import with_error
from meta_hamiltonian.inference.symbolic import read_symbolically
from meta_hamiltonian.learners import Learner
from meta_hamiltonian.learners.checkpoint import save_adapted
from meta_hamiltonian.reports.explore import explore
from meta_hamiltonian.reports.page import page
from meta_hamiltonian.reports.prediction import Prediction, predict, write_bands, write_prediction


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where the learner and the observations came from.

    - `learner`, `observations`: in words.
    - `settings`: those of the learner's checkpoint.
    """

    learner: str
    observations: str
    settings: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Written:
    """The words of the report: its short table, what was assumed, and what may be wrong."""

    table: Mapping[str, str]
    notes: Sequence[str]
    warnings: Sequence[str]


def write_system(fit: Fit, learner: Learner, horizon: float, origin: Origin, folder: Path) -> Written:
    """Writes everything into an empty folder, so that any machine can read it.

    **Arguments:**

    - `fit`: the system, and the state from which the prediction goes on.
    - `learner`: the learner that was adapted.
    - `horizon`: how long the prediction is.
    - `origin`: where learner and observations came from, for the report.
    """
    predicted = predict(fit, horizon)
    # What follows goes to files, number by number.
    fit, learner = fit.to("cpu"), copy.deepcopy(learner).cpu()
    write_prediction(folder / "prediction.csv", predicted)
    if predicted.bands:
        write_bands(folder / "bands.csv", predicted)
    save_adapted(fit.adapted, origin.settings, folder / "adapted.pt", fit.warnings)

    # A measurement is of use where it can be made: where this system has been, or will come to.
    near = around(fit.adapted.domain, fit.x.numpy(), predicted.x)
    following = None if fit.samples is None else where_next(fit.samples, near)
    figures = _figures(fit, predicted, following)
    for name, (figure, _) in figures.items():
        save(figure, folder / "figures" / name)
    table = _table(fit, predicted, horizon, origin, following)
    explored = explore(fit, predicted, horizon, learner)
    notes = [*fit.notes, explored.note] if explored.note else fit.notes
    written = Written(table, notes, [*fit.warnings, *predicted.warnings])
    drawn = {name: (_small(folder / "figures" / f"{name}.png"), about) for name, (_, about) in figures.items()}
    title, more = f"A new system, from {len(fit.x)} observed states", (explored.style, explored.section)
    text = page(title, table, written.notes, written.warnings, drawn, *more)
    (folder / "report.html").write_text(text, encoding="utf-8")
    return written


def _small(file: Path) -> bytes:
    """A figure in 256 colours, which are a fourth of its bytes and look the same."""
    found = io.BytesIO()
    with Image.open(file) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(found, "PNG", optimize=True)
    return found.getvalue()


def _figures(
    fit: Fit, predicted: Prediction, following: Float[Tensor, " state"] | None
) -> dict[str, tuple[Figure, str]]:
    """The figures by name, with captions."""
    domain, dxdt = fit.adapted.domain, fit.dxdt.numpy()
    orbit = predicted_orbit(domain, predicted.t, predicted.x, predicted.energy, predicted.bands)
    figures = {
        "orbit": (orbit, "The predicted orbit" + (", with 95 % credible bands." if predicted.bands else ".")),
        "residuals": (
            residuals(domain, dxdt, fit.fitted.numpy()),
            "The residuals of dx/dt at the observed states.",
        ),
    }
    one = domain.degrees_of_freedom == 1
    figures |= (_of_one if one else _of_several)(fit, predicted, following)
    if predicted.energy is not None and predicted.work:
        budget = energy_budget(domain, predicted.t, predicted.energy, predicted.work, predicted.power)
        figures["budget"] = (budget, "H, the energy that friction has taken and inputs have given, and their power.")
    return figures


def _of_one(
    fit: Fit, predicted: Prediction, following: Float[Tensor, " state"] | None
) -> dict[str, tuple[Figure, str]]:
    """The figures for one degree of freedom, whose states are the points of a plane."""
    x, dxdt = fit.x.numpy(), fit.dxdt.numpy()
    figures = {"field": (learned_field(fit.adapted, x, dxdt, predicted.x), "Arrows: what was observed.")}
    if predicted.energy is not None:
        follow = "Friction carries the orbit across these lines." if fit.friction else "Orbits follow these lines."
        figures["energy"] = (energy_contours(fit.adapted, x, predicted.x), follow)
    if fit.samples is not None and following is not None:
        known = field_uncertainty(fit.samples, x, predicted.x, following.numpy())
        figures["uncertainty"] = (known, "How far dx/dt may be off; the star marks where to measure next.")
    return figures


def _of_several(
    fit: Fit, predicted: Prediction, following: Float[Tensor, " state"] | None
) -> dict[str, tuple[Figure, str]]:
    """The figures for several degrees of freedom: projections, and slices through the start of the prediction."""
    domain, x, dxdt = fit.adapted.domain, fit.x.numpy(), fit.dxdt.numpy()
    orbit = predicted.x
    figures = {
        "positions": (positions(domain, x, orbit), "The orbit in the plane of positions. Points: what was observed."),
        "portraits": (
            phase_portraits(domain, x, dxdt, orbit),
            "Each degree of freedom by itself. Arrows: what was observed.",
        ),
        "field": (
            field_slices(fit.adapted, x, orbit),
            "The field on slices through the state where the prediction starts; the orbit leaves them at once.",
        ),
    }
    if has_sites(domain):
        picture = predicted_spacetime(domain, predicted.t, orbit, predicted.bands.get("x"))
        figures["spacetime"] = (picture, "The positions of all particles against time.")
    if predicted.energy is not None:
        contours = energy_slice(fit.adapted, x, orbit)
        figures["energy"] = (contours, "The energy of other positions, with everything else as where the orbit starts.")
    if fit.samples is not None and following is not None:
        known = uncertainty_slices(fit.samples, x, orbit, following.numpy())
        figures["uncertainty"] = (known, "How far dx/dt may be off on these slices; the star: where to measure next.")
    return figures


def _table(
    fit: Fit, predicted: Prediction, horizon: float, origin: Origin, following: Float[Tensor, " state"] | None
) -> dict[str, str]:
    duration = fit.adapted.domain.duration(horizon)
    table = {
        "learner": origin.learner,
        "observations": f"{origin.observations}: {len(fit.x)} states",
        "fit": fit.how,
        "error of dx/dt before adaptation": f"{fit.residual_before:.3g} of its RMS",
        "error of dx/dt after": f"{fit.residual:.3g} of its RMS",
        "steps": str(fit.steps),
        **{f"error at the held-out end, fit={how}": f"{error:.3g} state boxes" for how, error in fit.held_out.items()},
        "prediction": f"from {_state(fit.start)} for {duration}",
    }
    for kind, (value, deviation) in fit.friction.items():
        table[f"{kind} friction"] = f"{with_error(value, deviation)} per unit of {FRICTION[kind].of}"
    if fit.gains:
        table["gain of the inputs"] = ", ".join(with_error(*gain) for gain in fit.gains)
    if predicted.energy is not None and fit.friction:
        table["energy at the beginning, at the end"] = f"{predicted.energy[0]:.4g}, {predicted.energy[-1]:.4g}"
    if following is not None:
        table["measure next at"] = _state(following)
    if predicted.energy is not None:
        table["H in simple terms"] = str(read_symbolically(fit.adapted, fit.samples, fit.x, fit.inertia))
    return table


def _state(x: torch.Tensor) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in x.tolist()) + ")"
