"""What `python -m meta_hamiltonian adapt` leaves: the adapted system, its prediction and a report."""

import base64
import csv
import dataclasses
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from meta_hamiltonian.bands import energy_change_samples, interval, where_next
from meta_hamiltonian.checkpoint import SETTINGS_KEY, find_checkpoint, read_checkpoint, save_adapted
from meta_hamiltonian.figures import save
from meta_hamiltonian.figures.adapted import (
    energy_contours,
    field_uncertainty,
    learned_field,
    predicted_orbit,
    residuals,
)
from meta_hamiltonian.fitting import Fit
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.symbolic import read_symbolically

INSTANTS = 201
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
img { max-width: 100%; height: auto; background: white; }
.figures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; } figcaption { font-size: .9rem; }
table { border-collapse: collapse; } th, td { padding: .25rem .75rem .25rem 0; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; }
.warning { border-left: .3rem solid #D55E00; padding-left: .75rem; }
"""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The orbit from where the observations end.

    - `t`, `x`: instants and states `[S, 2n]`.
    - `energy`: the learned energy along it `[S]`, None if the network has none.
    - `bands`: by name, the ends of 95 % credible intervals, `(lower, upper)`: `x` of the states, `energy` of what the
        energy along the orbit differs from that at its start. Empty without a posterior.
    """

    t: np.ndarray
    x: np.ndarray
    energy: np.ndarray | None
    bands: Mapping[str, tuple[np.ndarray, np.ndarray]]


def predict(fit: Fit, horizon: float) -> Prediction:
    """The orbit from `fit.start`, for so long."""
    t = torch.linspace(0, horizon, INSTANTS, dtype=torch.float64)
    x = fit.adapted.rollout(fit.start.double(), t)
    has_energy = isinstance(fit.adapted.systems.net, HamiltonianNetwork)
    bands = {}
    if fit.samples is not None:
        assert fit.start_samples is not None
        orbits = fit.samples.rollout(fit.start_samples, t).states.transpose(0, 1)
        bands["x"] = tuple(end.numpy() for end in interval(orbits))
        if has_energy:
            bands["energy"] = tuple(end.numpy() for end in interval(energy_change_samples(fit.samples, x)))
    energy = fit.adapted.energy(x).numpy() if has_energy else None
    return Prediction(t.numpy() + fit.start_time, x.numpy(), energy, bands)


def write(fit: Fit, horizon: float, run: Path, source: Path, folder: Path) -> dict[str, str]:
    """Writes everything into an empty folder.

    **Arguments:**

    - `fit`: the system, and the state from which the prediction goes on.
    - `horizon`: how long.
    - `run`, `source`: where the learner and the observations came from, for the report.

    **Returns:** the short table of the report.
    """
    predicted = predict(fit, horizon)
    _write_prediction(folder / "prediction.csv", predicted)
    if predicted.bands:
        _write_bands(folder / "bands.csv", predicted)
    save_adapted(fit.adapted, read_checkpoint(find_checkpoint(run))[SETTINGS_KEY], folder / "adapted.pt")

    x, dxdt = fit.x.numpy(), fit.dxdt.numpy()
    orbit = predicted_orbit(predicted.t, predicted.x, predicted.energy, predicted.bands)
    figures = {
        "orbit": (orbit, "The predicted orbit" + (", with 95 % credible bands." if predicted.bands else ".")),
        "residuals": (
            residuals(x, dxdt, fit.adapted.field(fit.x).numpy()),
            "What the fit leaves of the observed dx/dt.",
        ),
    }
    following = None if fit.samples is None else where_next(fit.samples)
    if x.shape[-1] == 2:
        figures["field"] = (learned_field(fit.adapted, x, dxdt), "Arrows: what was observed.")
        if predicted.energy is not None:
            figures["energy"] = (energy_contours(fit.adapted, x, predicted.x), "Orbits follow these lines.")
        if fit.samples is not None and following is not None:
            figures["uncertainty"] = (
                field_uncertainty(fit.samples, x, following.numpy()),
                "How far dx/dt may be off; the star marks where to measure next.",
            )
    for name, (figure, _) in figures.items():
        save(figure, folder / "figures" / name)
    table = {
        "learner": str(run),
        "observations": f"{source}: {len(fit.x)} states fitted",
        "fit": fit.how,
        "error of dx/dt before adaptation": f"{fit.residual_before:.3g} of its RMS",
        "error of dx/dt after": f"{fit.residual:.3g} of its RMS",
        "steps": str(fit.steps),
        **{f"error at the held-out end, fit={how}": f"{error:.3g} state boxes" for how, error in fit.held_out.items()},
        "prediction": f"from {_state(fit.start)} for {horizon:g} time units",
    }
    if following is not None:
        table["measure next at"] = _state(following)
    reading = None if predicted.energy is None else read_symbolically(fit.adapted, fit.samples, fit.x)
    if reading is not None:
        table["H in simple terms"] = str(reading)
    (folder / "report.html").write_text(_report(table, fit, figures), encoding="utf-8")
    return table


def _state(x: torch.Tensor) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in x.tolist()) + ")"


def _names(state_dim: int) -> list[str]:
    n = state_dim // 2
    return ["q", "p"] if n == 1 else [f"{kind}{i + 1}" for kind in "qp" for i in range(n)]


def _write_prediction(path: Path, predicted: Prediction) -> None:
    names = ["t", *_names(predicted.x.shape[-1]), *([] if predicted.energy is None else ["energy"])]
    _write_csv(path, names, [predicted.t, *predicted.x.T, *([] if predicted.energy is None else [predicted.energy])])


def _write_bands(path: Path, predicted: Prediction) -> None:
    low, high = (end.T for end in predicted.bands["x"])
    ends = dict(zip(_names(predicted.x.shape[-1]), zip(low, high, strict=True), strict=True))
    if "energy" in predicted.bands:
        ends["energy_change"] = predicted.bands["energy"]
    names = [f"{name}_{end}" for name in ends for end in ("low", "high")]
    _write_csv(path, ["t", *names], [predicted.t, *(end for both in ends.values() for end in both)])


def _write_csv(path: Path, names: Sequence[str], columns: Sequence[np.ndarray]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(np.stack(columns, axis=-1).tolist())


def _report(table: Mapping[str, str], fit: Fit, figures: Mapping[str, tuple[Figure, str]]) -> str:
    """One file: the figures are inside it."""
    cells = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in table.items())
    warnings = "".join(f'<p class="warning">{html.escape(text)}</p>' for text in fit.warnings)
    notes = "".join(f"<li>{html.escape(text)}</li>" for text in fit.notes)
    images = "".join(_image(name, *figure) for name, figure in figures.items())
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>Adapted system</title><style>{_STYLE}</style></head><body>'
        f"<h1>A new system, from {len(fit.x)} observed states</h1>{warnings}<table>{cells}</table>"
        f"<h2>Assumptions</h2><ul>{notes or '<li>None: states and derivatives were observed.</li>'}</ul>"
        f'<h2>Figures</h2><div class="figures">{images}</div></body></html>\n'
    )


def _image(name: str, figure: Figure, caption: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    data = base64.b64encode(buffer.getvalue()).decode()
    alt, text = html.escape(name), html.escape(caption)
    return f'<figure><img alt="{alt}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
