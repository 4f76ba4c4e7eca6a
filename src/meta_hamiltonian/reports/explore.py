"""The interactive part of a report: click into the phase portrait, and the orbit from there is drawn."""

import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from meta_hamiltonian.figures.adapted import around
from meta_hamiltonian.figures.planes import phase_planes
from meta_hamiltonian.inference import Fit
from meta_hamiltonian.inference.browser import for_browser
from meta_hamiltonian.inference.operations import TapeError
from meta_hamiltonian.inference.stages import Stage, stages
from meta_hamiltonian.learners import Learner
from meta_hamiltonian.reports.prediction import Prediction

# Errors of a step: of the orbit, and of those that make its band.
_FINE, _COARSE = 1e-10, 1e-6
# An orbit is drawn at so many instants; a prediction has no more in the page.
_INSTANTS, _MOST_INSTANTS = 401, 1001
# Bands before the last stage are left out where a page would grow by more characters than these.
_MOST_CHARACTERS = 600_000
# So many observed states are drawn at most.
_MOST_SEEN = 500
_SCRIPTS = ("uPlot.iife.min.js", "machine.js", "orbits.js", "portrait.js", "explore.js")


class Explored(NamedTuple):
    """Parts of a page.

    - `style`, `section`: for the head and for the body of the page; empty where the part is left out.
    - `note`: why the part is left out; empty where it is there.
    """

    style: str
    section: str
    note: str


def explore(fit: Fit, predicted: Prediction, horizon: float, learner: Learner) -> Explored:
    """Everything that a browser needs to follow orbits by itself."""
    found = stages(learner, fit)
    try:
        data = _data(fit, predicted, found) | {"times": [predicted.t[0], predicted.t[0] + horizon]}
    except TapeError as error:
        kind = type(fit.adapted.systems.net).__name__
        return Explored(
            "", "", f"The report has no orbits to be clicked: a {kind} cannot be run in a browser, since {error}."
        )
    text = json.dumps(_finite(data), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    scripts = "".join(f"<script>{_asset(name)}</script>" for name in _SCRIPTS[:1])
    own = "\n".join(_asset(name).replace('"use strict";\n', "") for name in _SCRIPTS[1:])
    licence = _asset("uPlot.LICENSE").replace("--", "- -")
    section = (
        f'{_asset("explore.html")}<script type="application/json" id="system">{text}</script>'
        f'<!-- uPlot, below, is\n{licence}\n-->{scripts}<script>(() => {{"use strict";\n{own}}})();</script>'
    )
    return Explored(_asset("uPlot.min.css") + _asset("explore.css"), section, "")


def _asset(name: str) -> str:
    return (resources.files("meta_hamiltonian.reports") / "assets" / name).read_text(encoding="utf-8")


def _data(fit: Fit, predicted: Prediction, found: Sequence[Stage]) -> dict[str, Any]:
    others = {f"system {i}": stage.system for i, stage in enumerate(found)}
    others |= {f"samples {i}": stage.samples for i, stage in enumerate(found) if stage.samples is not None}
    data = for_browser(fit.adapted, others)
    numbers, last = data.pop("others"), len(found) - 1
    few = sum(map(len, (row for name, rows in numbers.items() if name.startswith("samples") for row in rows)))
    domain = fit.adapted.systems.net.domain
    told = [
        {
            "label": stage.label,
            "system": numbers[f"system {i}"][0],
            "lowest": data["lowest"] if i == last else _lowest(stage, domain),
            "samples": numbers.get(f"samples {i}", []) if i == last or few < _MOST_CHARACTERS else [],
        }
        for i, stage in enumerate(found)
    ]
    forces = fit.adapted.systems.forces
    signal = None if forces is None else forces.signal
    return {
        **data,
        "stages": told,
        "space": _space(fit, predicted),
        "signal": {"t": [], "u": []} if signal is None else {"t": signal.t.tolist(), "u": signal.u.tolist()},
        "instants": _INSTANTS,
        "tolerance": _FINE,
        "coarse": _COARSE,
        "method": _method(),
        "prediction": _prediction(predicted),
    }


def _lowest(stage: Stage, domain: Any) -> float:
    """The minimum of the learned energy over a grid, which is near enough for stages on the way."""
    if not stage.system.net.has_energy:
        return 0.0
    return stage.system.energy(domain.grid()[None]).min().item()


def _space(fit: Fit, predicted: Prediction) -> dict[str, Any]:
    """Names and ends of the coordinates, and what was observed."""
    whole = fit.adapted.systems.net.domain
    n, x = whole.degrees_of_freedom, fit.x.numpy()
    shown = around(whole, x, predicted.x) if n == 1 else whole
    thin = slice(None, None, max(1, len(x) // _MOST_SEEN))
    return {
        "names": whole.names,
        "labels": whole.labels,
        "time": whole.time_label,
        "energy": whole.energy_label,
        "low": [c.low for c in shown.coordinates],
        "high": [c.high for c in shown.coordinates],
        "centre": whole.centre,
        "half": whole.half_widths,
        "turns": [c.turns for c in whole.coordinates],
        "sizes": whole.sizes,
        "planes": [p.axes for p in phase_planes(whole, 2)],
        "start": whole.wrap(fit.start.double()).tolist(),
        "seen": _short(x[thin]),
    }


def _prediction(predicted: Prediction) -> dict[str, Any]:
    thin = slice(None, None, -(-len(predicted.t) // _MOST_INSTANTS))
    bands = [[], []] if "x" not in predicted.bands else [_short(end[thin].T) for end in predicted.bands["x"]]
    energy = predicted.energy
    changes = predicted.bands.get("energy")
    return {
        "t": _short(predicted.t[thin]),
        "x": _short(predicted.x[thin]),
        "others": [],
        "bands": [list(ends) for ends in zip(*bands, strict=True)],
        "energy": None if energy is None else _short(energy[thin]),
        "energyBand": None if energy is None or changes is None else [_short((energy[0] + c)[thin]) for c in changes],
        "title": "The prediction of this report" + (", with its 95 % bands." if predicted.bands else "."),
    }


def _finite(value: Any) -> Any:
    """The value with None in the place of what is no finite number, for which JSON has no word."""
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _method() -> Mapping[str, Any]:
    """The coefficients of [`DOP853`][]."""
    from scipy import integrate

    known = integrate.DOP853
    names = {"A": "A", "B": "B", "C": "C", "E3": "E3", "E5": "E5", "D": "D", "extra": "A_EXTRA", "C_extra": "C_EXTRA"}
    return {name: np.asarray(getattr(known, theirs)).tolist() for name, theirs in names.items()}


def _short(values: np.ndarray) -> list[Any]:
    """The values in seven digits, which are more than a figure shows."""
    return json.loads(
        json.dumps(np.asarray(values, dtype=float).tolist()), parse_float=lambda text: float(f"{float(text):.7g}")
    )
