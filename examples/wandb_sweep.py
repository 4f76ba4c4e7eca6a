"""A sweep that W&B records, and its numbers read back: from the server, or, offline, from the folder of the sweep.

python examples/wandb_sweep.py                                # offline, with summary.csv
python examples/wandb_sweep.py --online ENTITY/meta-hamiltonian
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import wandb

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--online", metavar="ENTITY/PROJECT", help="read the runs back from this project of the server")
parser.add_argument("--folder", type=Path, default=Path("outputs/wandb_sweep"), help="folder of the sweep")
parser.add_argument("overrides", nargs="*", help="more keys, such as trainer.max_steps=100")
options = parser.parse_args()

mode = "online" if options.online else "offline"
keys = ["algo=anil,maml", "shots=25", f"logger.mode={mode}", f"hydra.sweep.dir={options.folder}", *options.overrides]
subprocess.run([sys.executable, "-m", "meta_hamiltonian", "train", "-m", *keys], check=True)  # noqa: S603

if options.online:  # one run a job; the group is the sweep, and results are test/k25/step10/field_mse and so on
    for run in wandb.Api().runs(options.online, filters={"group": options.folder.name}):
        print(f"{run.name}: field MSE {run.summary['test/k25/step10/field_mse']:.3g}")
else:  # the same numbers, a row for each job, K and number of gradient steps
    with (options.folder / "summary.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["steps"] == "10":
                print(f"{row['algo']}: field MSE {float(row['field_mse_mean']):.3g} at K = {row['shots']}")
    print(f"upload the runs: wandb sync {options.folder}/*/wandb/offline-*")
