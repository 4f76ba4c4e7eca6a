"""`export`: an adapted system for other programs."""

import zipfile
from pathlib import Path
from typing import Annotated

import typer

from meta_hamiltonian.commands.options import Force, Imports, Json, import_modules
from meta_hamiltonian.commands.output import Output, check_free, one_line_errors


def export(
    adapted: Annotated[Path, typer.Argument(help="The adapted.pt that `adapt` left.")],
    file: Annotated[Path, typer.Argument(help="The new file: .pt2 (torch.export) or .onnx.")],
    imports: Imports = None,
    force: Force = False,
    machine: Json = False,
) -> None:
    """Write H and dx/dt of an adapted system as a file for other programs, checked to 1e-6.

    Example: `meta-hamiltonian export observations-adapted/adapted.pt pendulum.pt2`
    """
    output = Output(machine)
    with one_line_errors():
        check_free(file, force)
        if not adapted.is_file():
            raise FileNotFoundError(f"{adapted} does not exist; give the adapted.pt of an adaptation")
        if not zipfile.is_zipfile(adapted):
            raise ValueError(f"{adapted} is no adapted system: it is truncated, or another kind of file")
        import_modules(imports)

        from meta_hamiltonian import load_adapted
        from meta_hamiltonian.inference.export import export as write
        from meta_hamiltonian.learners.checkpoint import warnings_of_adapted
        from meta_hamiltonian.reports.progress import progress

        system, warnings = load_adapted(adapted), list(warnings_of_adapted(adapted))
        output.warn(warnings)
        with progress() as said:
            write(system, file, said)
        outputs = "H [batch], dx/dt [batch, 2n]" if system.has_energy else "dx/dt [batch, 2n]; it has no energy"
        output.say(f"{file}: states x [batch, 2n] in float64 -> {outputs}.")
        output.finish({"file": file, "outputs": ["H", "dxdt"] if system.has_energy else ["dxdt"], "warnings": warnings})
