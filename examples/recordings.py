"""A folder of recordings becomes a family, without a formula, and a new recording is forecast.

python examples/recordings.py --members 30 --steps 300
"""

import argparse
import csv
import shutil
import subprocess
import sys
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--members", type=int, default=30, help="recordings to learn from")
parser.add_argument("--steps", type=int, default=300, help="outer steps")
parser.add_argument("--folder", type=Path, default=Path("outputs/recordings"), help="where everything goes")
options = parser.parse_args()
home = options.folder


def command(*arguments: str) -> None:
    """Runs a command of this package."""
    subprocess.run([sys.executable, "-m", "meta_hamiltonian", *arguments], check=True)  # noqa: S603


# Whoever has recordings of their own leaves this out: a file, or a folder, for each member.
common = ["system=spring", "--duration", "8", "--rate", "10", "--noise", "0.005", "--force"]
command("simulate", *common, "--members", str(options.members), "--out", str(home / "springs"))
command("simulate", *common, "--members", "1", "--seed", "1", "--out", str(home / "new"))

shutil.rmtree(home / "run", ignore_errors=True)  # of an earlier time
command(
    "train", "system=recorded", f"data.path={home / 'springs'}", "algo=ridge", "logger=none",
    f"trainer.max_steps={options.steps}", f"hydra.run.dir={home / 'run'}",
)  # fmt: skip
command(
    "adapt", str(home / "run"), str(home / "new" / "member-1.csv"), "--to-time", "4", "--horizon", "4",
    "--out", str(home / "forecast"), "--force",
)  # fmt: skip

with (home / "forecast" / "prediction.csv").open(newline="") as file:
    *_, last = csv.DictReader(file)
print(f"the new spring at t = {float(last['t']):.2f}: q = {float(last['q']):.3f}")
print(f"the report: {home / 'forecast' / 'report.html'}")
