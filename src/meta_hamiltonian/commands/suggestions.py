"""What to type next, where something was left out."""

from pathlib import Path

# Files with these endings may hold observations.
_ENDINGS = (".csv", ".txt", ".tsv", ".dat", ".xlsx", ".xls", ".json", ".jsonl", ".npz", ".parquet", ".mat")
# Where training leaves its runs, and where people move them.
_PLACES = ("", "*/", "outputs/*/", "outputs/*/*/", "outputs/multirun/*/*/*/")


def runs() -> list[Path]:
    """Folders of trained runs below this one, the newest first."""
    found = [file for place in _PLACES for file in Path(".").glob(f"{place}checkpoints/best.ckpt")]
    return [file.parent.parent for file in sorted(found, key=lambda file: -file.stat().st_mtime)]


def next_command(command: str, needs_file: bool = False) -> str:
    """In one line, the command in full, with a run and a file that are here."""
    names = "a trained run and a file of observations" if needs_file else "a trained run"
    found = runs()
    if not found:
        return f"{command} needs {names}; there is no run below this folder; type: meta-hamiltonian train algo=ridge"
    files = [file for file in sorted(Path(".").iterdir()) if file.suffix.lower() in _ENDINGS] if needs_file else []
    file = f" {files[0] if files else 'observations.csv'}" if needs_file else ""
    return f"{command} needs {names}; type: meta-hamiltonian {command} {found[0]}{file}"
