"""The meta-test of a run on recorded members: from a trained learner to `results.csv`, `forecasts.csv` and figures."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from meta_hamiltonian.basics.devices import gather, rank, share
from meta_hamiltonian.episodes.recordings import Recordings
from meta_hamiltonian.evaluation.baselines import MODELS, Baselines
from meta_hamiltonian.evaluation.coverage import LEVELS
from meta_hamiltonian.evaluation.forecasts import figures, forecasts
from meta_hamiltonian.evaluation.halves import LEARNED, Forecast
from meta_hamiltonian.evaluation.results import COLUMNS, FORECAST_COLUMNS, write_rows
from meta_hamiltonian.figures import save
from meta_hamiltonian.figures.forecasts import forecast_figure
from meta_hamiltonian.jobs.test import draw_training, track
from meta_hamiltonian.jobs.tracking import log_figure, log_table
from meta_hamiltonian.learners.checkpoint import Trained
from meta_hamiltonian.observations.known import known_words
from meta_hamiltonian.reports.tables import print_forecasts

log = logging.getLogger(__name__)


def test_forecasts(
    config: DictConfig, trained: Trained, recordings: Recordings, folder: Path, logger: Logger | None
) -> None:
    """Predicts the rest of each held-out member's recordings from their first part.

    Leaves `results.csv`, a row for the learner and one for each baseline, `forecasts.csv` with the members, and
    `figures/` in the run's folder.
    """
    members, part = recordings.test, config.test.observed
    log.info(f"Testing on {len(members)} held-out members: the first {part:.0%} of each recording is observed.")
    own = forecasts(
        trained.learner,
        members[share(len(members))],
        part,
        recordings.inertias,
        trained.validation_loss,
        Baselines(trained.learner.net.domain, [*recordings.train, *recordings.val]),
        warned=log.warning,
    )
    found = [one for of_rank in gather(own) for one in of_rank]
    if rank() != 0:
        return
    rows = _rows(config, trained, found)
    write_rows(folder / "results.csv", (*COLUMNS, *FORECAST_COLUMNS), rows)
    known = {one.name: one.known for one in members}
    each = [_of_member(one) | _known(known[one.member]) for one in found]
    columns = dict.fromkeys([*_COLUMNS, *(name for row in each for name in row)])
    write_rows(folder / "forecasts.csv", list(columns), each)
    track(logger, rows)
    log_table(logger, "forecasts", each)
    drawn = draw_training(trained, folder / "figures")
    if found:
        labels = {name: known_words(own) for name, own in known.items()}
        save(forecast_figure(found, trained.learner.net.domain, labels), folder / "figures" / "forecasts")
        drawn.append(folder / "figures" / "forecasts.png")
    for file in drawn:
        log_figure(logger, file)
    print_forecasts(rows)
    log.info(f"Everything lies in {folder}: results.csv, forecasts.csv, figures, checkpoints, train.log.")


test_forecasts.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]  # pytest would collect it

_COLUMNS = (
    "member",
    "method",
    "orbit_rel",
    *(f"coverage_{100 * level:.0f}" for level in LEVELS),
    "observed_until",
    "predicted_until",
    "diverged",
    "friction",
    "adapt_seconds",
)


def _rows(config: DictConfig, trained: Trained, found: Sequence[Forecast]) -> list[dict[str, Any]]:
    settings = trained.settings
    origin = {**settings["names"], "seed": settings["seed"], "inner_steps": settings["algo"].get("inner_steps", 0)}
    rows = []
    for method in dict.fromkeys(one.method for one in found):
        name = {} if method == LEARNED else {"algo": method, "model": MODELS[method]}
        rows.append({**origin, **name, **figures([one for one in found if one.method == method])})
    return rows


def _known(known: Mapping[str, str]) -> dict[str, str]:
    """What `members.csv` says of a member, as columns whose names differ from all others."""
    return {f"known_{name}": value for name, value in known.items()}


def _of_member(one: Forecast) -> dict[str, Any]:
    covered = {f"coverage_{100 * level:.0f}": value for level, value in zip(LEVELS, one.covered, strict=False)}
    return {
        "member": one.member,
        "method": one.method,
        "orbit_rel": one.error,
        **covered,
        "observed_until": one.halves.t[0].item(),
        "predicted_until": one.halves.t[-1].item(),
        "diverged": int(one.lost),
        "friction": "+".join(one.friction),
        "adapt_seconds": round(one.seconds, 4),
    }
