"""Loading what a training left; PyTorch is imported here."""

from pathlib import Path
from typing import TYPE_CHECKING

from meta_hamiltonian.basics.plain_values import find_checkpoint
from meta_hamiltonian.commands.options import import_modules

if TYPE_CHECKING:
    from meta_hamiltonian.learners.checkpoint import Trained


def load(run: Path, imports: list[str] | None) -> "Trained":
    """The learner of a run. A folder without a checkpoint is refused before PyTorch is imported."""
    find_checkpoint(run)
    import_modules(imports)

    from meta_hamiltonian.learners.checkpoint import load_trained

    return load_trained(run)
