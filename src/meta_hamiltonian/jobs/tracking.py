"""Where a run's metrics go: W&B, a CSV file, or nowhere. The targets of `conf/logger/`."""

import functools
import logging
import os
import secrets
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

from meta_hamiltonian.basics.exceptions import ConfigError
from meta_hamiltonian.basics.files import write_text

log = logging.getLogger(__name__)

# Nothing waits for a network: W&B's own check of a key takes 10 s where there is none.
_SECONDS_FOR_AN_ANSWER = 3.0
_SECONDS_TO_START = 15.0
_SECONDS_TO_FINISH = 30.0
# How often the load of processors, memory and GPUs is looked at.
_SECONDS_OF_STATISTICS = 5.0
_NO_KEY = "no key is configured"


def csv_logger(folder: Path, name: str, group: str | None) -> CSVLogger:
    """`logger=csv`: writes `csv/metrics.csv` in the run's folder."""
    return CSVLogger(folder, name="csv", version="")


def wandb_logger(
    folder: Path, name: str, group: str | None, project: str, mode: str | None, job_type: str = "train"
) -> WandbLogger:
    """`logger=wandb`: one W&B run, in the run's folder, and on the server where one answers.

    **Arguments:**

    - `folder`: the run's folder. The W&B id is kept there, so that a resumed run goes on under its id.
    - `name`, `group`, `job_type`: as W&B shows them.
    - `project`: the W&B project.
    - `mode`: `"online"` or `"offline"`; None is `WANDB_MODE` where that is set, else online if a key is configured.

    **Raises:** [`ConfigError`][] for `mode="online"` without a key.
    """
    import wandb  # here, since it takes seconds that other loggers need not spend
    from wandb.errors import CommError

    # Their own lines would repeat ours and name the same folder in three ways.
    wandb.setup(wandb.Settings(silent=True))
    asked = mode or os.environ.get("WANDB_MODE") or "online"
    problem = _problem_with_server() if asked == "online" else None
    if mode == "online" and problem == _NO_KEY:
        raise ConfigError(
            "logger.mode=online is not allowed without a W&B key: run `wandb login`, or set WANDB_API_KEY"
        )

    (folder / "wandb").mkdir(exist_ok=True)
    id_file = folder / "wandb" / "id"
    if not id_file.exists():
        write_text(id_file, secrets.token_hex(4))
    logger = functools.partial(
        WandbLogger,
        project=project,
        name=name,
        group=group,
        job_type=job_type,
        save_dir=folder,
        id=id_file.read_text(),
        settings=wandb.Settings(
            silent=True,
            console="off",
            init_timeout=_SECONDS_TO_START,
            finish_timeout=_SECONDS_TO_FINISH,
            finish_timeout_raises=True,
            x_stats_sampling_interval=_SECONDS_OF_STATISTICS,
        ),
    )
    if asked == "online" and problem is None:
        online = logger(mode="online")
        try:
            log.info(f"W&B: {online.experiment.url}")
            return _laid_out(online)
        except CommError as error:
            problem = _first_line(error)
    if asked == "disabled":
        log.info("W&B: disabled by WANDB_MODE")
        return logger(mode="disabled")  # nothing is laid out where nothing is kept
    why = "" if problem is None else f" ({problem})"
    runs = folder / "wandb"
    log.info(f"W&B: offline{why}; see it with `wandb leet {runs}`, upload it with `wandb sync {runs}/offline-*`")
    return _laid_out(logger(mode="offline"))


# Against what W&B draws each metric, and which of its values a table of runs shows.
_AGAINST_STEPS = {
    "train/query_loss": "min,last",
    "val/query_loss": "min,last",
    "val/rank": "last",
    "train/tasks_per_second": "mean,max",
    "train/skipped": "last",
}
ADAPTATION = "adaptation"
"""The prefix of errors that are drawn against gradient steps, or against another measure of adaptation."""


def _laid_out(logger: WandbLogger) -> WandbLogger:
    """Tells W&B how metrics are to be shown.

    Metrics of training are drawn against outer steps, metrics of the test are single numbers, and errors after 0, 1, 5,
    ... steps of adaptation are drawn against these steps.
    """
    run = logger.experiment
    for name, summary in _AGAINST_STEPS.items():
        run.define_metric(name, step_metric="trainer/global_step", summary=summary)
    run.define_metric("test/*", summary="last")
    run.define_metric(f"{ADAPTATION}/steps", hidden=True)
    run.define_metric(f"{ADAPTATION}/*", step_metric=f"{ADAPTATION}/steps", step_sync=False)
    return logger


def log_table(logger: Logger | None, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Logs rows as a table of W&B, which can be sorted and compared there; other loggers have no tables."""
    if not isinstance(logger, WandbLogger) or not rows:
        return
    columns = list(dict.fromkeys(column for row in rows for column in row))
    from wandb.errors import Error  # here: it takes seconds, and has been imported by now

    if not _still_there(logger):  # a table, unlike a number, asks the server first, and would wait for it
        log.warning(f"The table {name} is not in W&B, but in the folder alone: the server does not answer")
        return
    try:
        logger.log_table(name, columns, [[row.get(column) for column in columns] for row in rows])
    except Error as error:
        log.warning(f"The table {name} is not in W&B, but in the folder alone: {_first_line(error)}")


def log_figure(logger: Logger | None, file: Path) -> None:
    """Logs a PNG file below `figures/`."""
    if isinstance(logger, WandbLogger):
        logger.log_image(f"figures/{file.stem}", [str(file)])


def close(logger: Logger | None) -> None:
    """Ends the W&B run, whether the server is still there or not."""
    if not isinstance(logger, WandbLogger):
        return
    run = logger.experiment
    try:
        run.finish()
    except TimeoutError:
        log.warning(
            f"W&B: the server has not taken everything within {_SECONDS_TO_FINISH:.0f} s; nothing is lost: upload it "
            f"with `wandb sync {Path(run.dir).parent}`"
        )


@functools.cache
def _problem_with_server() -> str | None:
    """Why a run cannot be online, in words; None if it can. Asked once a process."""
    import wandb
    from wandb.errors import Error

    answers: list[str | None] = []

    def ask() -> None:
        try:
            answers.append(None if wandb.login(prompt=False, verify=True) else _NO_KEY)
        except (Error, OSError) as error:
            answers.append(_first_line(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_SECONDS_FOR_AN_ANSWER)
    return answers[0] if answers else f"the server did not answer within {_SECONDS_FOR_AN_ANSWER:.0f} s"


def _still_there(logger: WandbLogger) -> bool:
    """Whether the server of an online run still answers, with whatever it may say; True for an offline run."""
    import requests  # which W&B brings

    settings = logger.experiment.settings
    if settings.mode != "online":
        return True
    try:
        requests.head(settings.base_url, timeout=_SECONDS_FOR_AN_ANSWER)
    except requests.RequestException:
        return False
    return True


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
