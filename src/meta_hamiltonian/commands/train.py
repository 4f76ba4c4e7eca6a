"""`train`: the same as `python train.py`."""

import sys

import typer


def train(context: typer.Context) -> None:
    """Meta-train, test and report: the same as `python train.py`. `meta-hamiltonian train --help` explains every key.

    Example: `meta-hamiltonian train algo=maml`
    """
    from meta_hamiltonian.jobs.command import main  # here: the other commands need no Hydra

    sys.argv = ["meta-hamiltonian train", *context.args]
    main()
