"""The rooms: what may import what, and that a reader finds them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
WAY = (ROOT / "docs" / "house.md").read_text("utf-8")


def test_imports_run_downwards():
    """The contracts of pyproject.toml, kept by import-linter."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_room_says_what_it_is_for():
    rooms = [path.parent for path in (ROOT / "src" / "meta_hamiltonian").rglob("__init__.py")]
    assert len(rooms) > 12
    for room in rooms:
        assert (room / "__init__.py").read_text().startswith('"""'), room
        if "numerics" not in room.parts:
            assert f"  {room.name}/" in WAY or room.name == "meta_hamiltonian", f"docs/house.md leads to {room.name}"
