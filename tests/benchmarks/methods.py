"""The published methods on all families, in a pool of processes: what `experiment=methods` does one by one.

`python tests/benchmarks/methods.py OUT --minutes 8 --processes 16` measures a few steps of each method on each family,
trains it for as many steps as make `--seconds` of one core, and tests it. OUT then holds `methods.csv`, `methods.md`
and `methods.png`, and `failed.txt` says what did not finish. All times but `--minutes` are those of the processor, so
that a busy machine gives the same numbers. A cell that takes more than its share is ended, and everything is after
`--minutes`.

A cell is `method:family`, such as `camel:spring`, `camel:*` or `*:spring`; without any, all of them are run. With
`--keep RUNS`, cells that have finished in that folder are not run again. `--also methods.csv` adds cells that were
measured earlier, where they are not measured now.
"""

import argparse
import csv
import fnmatch
import itertools
import logging
import math
import os
import resource
import runpy
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: a process a core

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from lightning import Callback, Trainer

import meta_hamiltonian.jobs.run  # noqa: F401  # imported once, for all processes
from meta_hamiltonian.evaluation.results import write_rows
from meta_hamiltonian.figures import save
from meta_hamiltonian.figures.methods import methods as figure_of
from meta_hamiltonian.jobs.composition import conf_folder, register_schemas
from meta_hamiltonian.jobs.family import class_settings
from meta_hamiltonian.jobs.job import read_finished
from meta_hamiltonian.jobs.methods import COLUMNS, markdown, rows_of, tables
from meta_hamiltonian.jobs.sweep import summarize
from meta_hamiltonian.learners.checkpoint import build, build_learner
from meta_hamiltonian.reports.tables import markdown_table
from meta_hamiltonian.systems import SimulatedSystem

ROOT = Path(__file__).parents[2]
METHODS = ("ridge", "ridge_latents", "encoder", "camel", "coda", "svd", "cavia", "anil", "maml", "metasgd", "fomaml")
FAMILIES = (
    "spring",
    "pendulum",
    "duffing",
    "damped_oscillator",
    "lotka_volterra",
    "henon_heiles",
    "kepler_unknown_centre",
    "spring_pendulum",
    "double_pendulum",
)
# The latents that a race takes (docs/latents.md); elsewhere it takes none, and steps after it are as cheap.
LATENTS = {"kepler_unknown_centre": 2, "spring_pendulum": 1}
# Steps that are measured, after those that warm up, where either take no more than so many seconds; and what testing
# may take beside a training of so many seconds.
WARM, MEASURED, LONGEST = 5, 15, 5.0
TESTING = 60.0


class Clock(Callback):
    """The processor's time of the measured steps: what else the machine does is not in it."""

    def on_train_start(self, trainer, *_):
        self.began, self.first = time.process_time(), None

    def on_train_batch_end(self, trainer, *_):
        now, step = time.process_time(), trainer.global_step
        if self.first is None:
            if step == WARM or now - self.began > LONGEST:
                self.began, self.first = now, step
        elif step == self.first + MEASURED or now - self.began > LONGEST:
            self.each = (now - self.began) / (step - self.first)
            trainer.should_stop = True


def overrides(method, family, *more):
    return [
        f"method=minute/{method}",
        f"system={family}",
        "shots=[10,50]",
        "test.steps=[5,50,250]",
        "test.n_systems=30",
        "logger=none",
        "trainer.enable_progress_bar=false",
        *more,
    ]


def seconds_of_a_step(arguments):
    """By Lightning, as in a training, without validation."""
    with initialize_config_dir(str(conf_folder().resolve()), version_base=None):
        config = compose("config", arguments)
    GlobalHydra.instance().clear()
    settings = class_settings(config)
    family = build(settings["system"], SimulatedSystem)
    settings["domain"] = family.domain.settings()
    dtype = torch.float64 if config.trainer.precision == "64-true" else torch.float32
    torch.manual_seed(0)
    learner = build_learner(settings).to(dtype)
    learner.prepare(config.data.tasks)
    data = instantiate(config.data, _partial_=True)(system=family, seed=0, dtype=dtype)
    clock = Clock()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=WARM + MEASURED,
        precision=config.trainer.precision,
        gradient_clip_val=config.trainer.gradient_clip_val,
        limit_val_batches=0,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(instantiate(config.optim, _partial_=True)(learner, settings), data)
    return clock.each


def steps_of(method, family, seconds, more):
    """As many steps as take so long.

    A race between numbers of latents ends at the first validation, and dearer steps than those after it are behind it.
    It is never cut short: where it takes longer than `seconds`, so does the training.
    """
    arguments = overrides(method, family, *more)
    each = seconds_of_a_step(arguments)
    if method != "ridge_latents":
        return max(20, math.floor(seconds / each))
    alone = seconds_of_a_step([*arguments, f"algo.latents={LATENTS.get(family, 0)}"])
    print(f"{1e3 * each:.2f} ms a step of the race, {1e3 * alone:.2f} ms after it", flush=True)
    with initialize_config_dir(str(conf_folder().resolve()), version_base=None):
        race = compose("config", arguments).trainer.val_check_interval
    GlobalHydra.instance().clear()
    return race + max(0, math.floor((seconds - race * each) / alone))


def run(method, family, folder, seconds, more):
    """In a process of its own: measures, trains, tests."""
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    register_schemas()
    began = time.process_time()
    steps = steps_of(method, family, seconds, more)
    print(f"{steps} steps, measured in {time.process_time() - began:.0f} s", flush=True)
    arguments = [*overrides(method, family, *more), f"trainer.max_steps={steps}", f"hydra.run.dir={folder}"]
    sys.argv = ["train.py", *arguments]
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")


def started(cell, runs, share, seconds, more):
    """The process of a cell, its output in a file; the system ends it after its share of the processor."""
    method, family = cell
    log = runs / f"{method}-{family}.log"
    if process := os.fork():
        return process
    code = 1
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(share), math.ceil(share)))
    try:
        os.chdir(ROOT)
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            run(method, family, runs / f"{method}-{family}", seconds, more)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def pool(cells, runs, arguments):
    """Runs the cells; returns those that failed, with the reason."""
    waiting = [cell for cell in cells if read_finished(runs / "-".join(cell)) is None]
    running, failed = {}, {}
    end = time.monotonic() + 60 * arguments.minutes
    asked = []  # to end now: what has finished is gathered all the same
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    share = arguments.seconds + TESTING * arguments.patience
    while waiting or running:
        now = time.monotonic()
        end = min(end, now - 1) if asked else end
        while waiting and len(running) < arguments.processes and now < end - share / 2:
            cell = waiting.pop(0)
            running[started(cell, runs, share, arguments.seconds, arguments.set)] = cell, now
        for process, (cell, began) in list(running.items()):
            if now > end:
                os.kill(process, signal.SIGKILL)
                failed[cell] = f"ended after {now - began:.0f} s"
        process, status = os.waitpid(-1, os.WNOHANG) if running else (0, 0)
        if process in running:
            cell, began = running.pop(process)
            code = os.waitstatus_to_exitcode(status)
            if code:
                failed.setdefault(cell, f"exit code {code}")
            print(
                f"{':'.join(cell)}: {time.monotonic() - began:.0f} s{failed.get(cell, '') and ', failed'}", flush=True
            )
        elif now > end:
            failed |= dict.fromkeys(waiting, "no time left")
            waiting = []
        time.sleep(0.05)
    return failed


def methods_of(runs, also):
    """The rows of all cells that have finished, and those of earlier measurements; families and methods in order."""
    summarize(runs, draw=False)
    with (runs / "summary.csv").open(newline="") as file:
        rows = rows_of(runs, [row for row in csv.DictReader(file) if row["status"] == "finished"])
    measured = {(row["method"], row["system"]) for row in rows}
    for path in also:
        with path.open(newline="") as file:
            rows += [row for row in csv.DictReader(file) if (row["method"], row["system"]) not in measured]

    def place(row):
        return FAMILIES.index(row["system"]), METHODS.index(row["method"]), int(row["shots"])

    return sorted(rows, key=place)


def tables_of(rows):
    """The tables from the largest K of each family, and the errors of the field from its smallest."""
    fewest = {}
    for row in rows:
        fewest[row["system"]] = min(int(row["shots"]), fewest.get(row["system"], math.inf))
    few = tables([row for row in rows if int(row["shots"]) == fewest[row["system"]]])
    lines = markdown(rows)
    for title, found in itertools.islice(few.items(), 1):
        lines += ["", f"## {title}, from the fewest observations", "", *markdown_table(list(found[0]), found)]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("out", type=Path, help="the folder of the results")
    parser.add_argument("cells", nargs="*", help="method:family, either may be *; all without any")
    parser.add_argument("--minutes", type=float, default=60.0, help="for everything")
    parser.add_argument("--seconds", type=float, default=60.0, help="of one core, for the training of a cell")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--patience", type=float, default=1.0, help="what testing may take, in minutes")
    parser.add_argument("--set", nargs="*", default=[], help="more keys for all cells, such as test.n_systems=5")
    parser.add_argument("--keep", type=Path, default=None, help="the folder of the runs; by default they are removed")
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="methods.csv of earlier measurements")
    arguments = parser.parse_args()
    asked = arguments.cells or ["*"]
    cells = [
        cell
        for cell in itertools.product(METHODS, FAMILIES)
        if any(fnmatch.fnmatchcase(":".join(cell), pattern) for pattern in asked)
    ]
    with tempfile.TemporaryDirectory() as folder:
        runs = arguments.keep or Path(folder)
        runs.mkdir(parents=True, exist_ok=True)
        failed = pool(cells, runs, arguments)
        rows = methods_of(runs, arguments.also)
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_rows(arguments.out / "methods.csv", COLUMNS, rows)
        (arguments.out / "methods.md").write_text(tables_of(rows))
        if rows:
            save(figure_of(rows), arguments.out / "methods")
        tails = []
        for cell, reason in failed.items():
            log = runs / f"{cell[0]}-{cell[1]}.log"
            last = log.read_text()[-1500:] if log.exists() else ""
            tails.append(f"{':'.join(cell)}: {reason}\n{last}\n")
        (arguments.out / "failed.txt").write_text("\n".join(tails))
    print(f"{len(cells) - len(failed)} of {len(cells)} cells in {arguments.out}", flush=True)


if __name__ == "__main__":
    main()
