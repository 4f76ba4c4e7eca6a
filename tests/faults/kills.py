"""Kills a training or a sweep again and again, and checks that nothing is lost.

    python tests/faults/kills.py training --kills 50
    python tests/faults/kills.py sweep --kills 50
    python tests/faults/kills.py sweep --kills 50 hydra/launcher=joblib

Runs the command once without a fault. Then runs it in another folder, with SIGKILL for it and all its processes at
random moments, and `resume=true` from the second time on. After every kill all checkpoints must be readable; in the
end weights must be the same bit for bit, and so must the results. More overrides may follow.
"""

import argparse
import contextlib
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
TINY = (
    "algo=anil",
    "compile=false",
    "logger=none",
    "model.width=16",
    "model.depth=2",
    "data.meta_batch=4",
    "data.tasks=400",
    "data.val_tasks=20",
    "test.n_systems=2",
    "test.steps=[0,5]",
    "trainer.enable_progress_bar=false",
)
COMMANDS = {
    "training": (*TINY, "trainer.max_steps=60000", "trainer.val_check_interval=400"),
    "sweep": (
        "-m",
        *TINY,
        "trainer.max_steps=1500",
        "trainer.val_check_interval=150",
        "seed=0,1,2,3,4,5",
        "shots=5,10",
    ),
}


def start(what: str, folder: Path, *more: str) -> subprocess.Popen[str]:
    where = f"hydra.{'sweep' if what == 'sweep' else 'run'}.dir={folder}"
    command = [sys.executable, "train.py", *COMMANDS[what], where, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finish(what: str, folder: Path, *more: str) -> str:
    process = start(what, folder, *more)
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"the command failed with code {process.returncode}:\n{output}")
    return output


def kill(process: subprocess.Popen[str]) -> bool:
    """Whether it still ran."""
    alive = process.poll() is None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return alive


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The contents of all checkpoints of runs, by their path in the folder."""
    files = [file for file in folder.rglob("*.ckpt") if not file.name.startswith(".")]
    return {
        str(file.relative_to(folder)): {
            "step": torch.tensor(checkpoint["global_step"]),
            **checkpoint["state_dict"],
        }
        for file in files
        for checkpoint in [torch.load(file, weights_only=True)]
    }


def results(folder: Path) -> dict[str, list[dict[str, str]]]:
    """All results, without the column that a clock decides."""
    tables = {}
    for file in folder.rglob("results.csv"):
        with file.open(newline="") as text:
            rows = [{k: v for k, v in row.items() if k != "adapt_seconds"} for row in csv.DictReader(text)]
        tables[str(file.relative_to(folder))] = rows
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=COMMANDS)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("overrides", nargs="*", help="more of them")
    given, unknown = parser.parse_known_args()
    more = [*given.overrides, *unknown]
    chance = random.Random(given.seed)
    home = Path(tempfile.mkdtemp(prefix="kills-"))

    began = time.perf_counter()
    finish(given.what, home / "whole", *more)
    whole_time = time.perf_counter() - began
    print(f"Without a fault: {whole_time:.0f} s.", flush=True)

    cut, alive, reached = home / "killed", 0, []
    for number in range(given.kills):
        # Some die while they start, some in training, some in the tests or between jobs.
        process = start(given.what, cut, *more, *(["resume=true"] if number else []))
        time.sleep(chance.uniform(0.2, min(whole_time, 25.0)))
        alive += kill(process)
        found = weights(cut)  # reads all of them
        reached.append(sum(int(values["step"]) for name, values in found.items() if name.endswith("last.ckpt")))
        if (number + 1) % 10 == 0:
            print(f"{number + 1} kills, {alive} of them of a running process; steps saved: {reached[-10:]}", flush=True)
    if sorted(reached) != reached:
        raise SystemExit(f"steps were lost: {reached}")
    finish(given.what, cut, *more, "resume=true")

    expected, found = weights(home / "whole"), weights(cut)
    assert set(expected) == set(found), f"other checkpoints: {set(expected) ^ set(found)}"
    for name, values in expected.items():
        for key, value in values.items():
            if not torch.equal(value, found[name][key]):
                raise SystemExit(f"{name}: {key} differs")
    assert results(home / "whole") == results(cut), "results differ"
    if given.what == "sweep":
        summaries = [(folder / "summary.csv").read_text().count("\n") for folder in (home / "whole", cut)]
        assert summaries[0] == summaries[1], f"summaries have {summaries} lines"
    print(f"{given.kills} kills: {len(expected)} checkpoints and {len(results(cut))} tables of results are the same.")
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
