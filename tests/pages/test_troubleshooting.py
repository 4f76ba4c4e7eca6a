"""The page lists every message of the errors that a user can meet, and nothing else."""

import ast
import re
from collections.abc import Iterator

import pytest
from pages import ROOT

SOURCE = ROOT / "src" / "meta_hamiltonian"
# Errors of a user's, wherever they are raised; and where a plain ValueError is one.
OF_USERS = {
    *("ObservationError", "ConfigError", "CheckpointError", "ExportError", "StorageError", "DivergedError"),
    *("StoppedError", "NoOrbitError", "FileNotFoundError", "FileExistsError"),
}
# These pass on what another error says, and where.
PASSED_ON = {"data.path: …", "… is not allowed: …", "array …: …", "…: column …: …", "…, and …"}
PLAIN = ("commands/", "config/asked", "inference/", "jobs/", "dynamics/", "systems/")


def listed() -> list[str]:
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    return re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)


def messages() -> Iterator[tuple[str, str]]:
    """Where each error is raised, and its text with … for what varies."""
    for file in sorted(SOURCE.rglob("*.py")):
        place = file.relative_to(SOURCE).as_posix()
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args):
                continue
            name = ast.unparse(node.exc.func)
            text = text_of(node.exc.args[0])
            if name in OF_USERS or (name == "ValueError" and place.startswith(PLAIN)):
                yield f"{place}:{node.lineno}", text


def text_of(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return "…"


def pattern(entry: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, entry.split("…"))), re.DOTALL)


MESSAGES = [(place, text) for place, text in messages() if re.search(r"\w{2}", text) and text not in PASSED_ON]


def test_every_message_has_its_remedy():
    patterns = [pattern(entry) for entry in listed()]
    missing = [f"{place}: {text}" for place, text in MESSAGES if not any(one.search(text) for one in patterns)]
    assert len(MESSAGES) > 150
    assert not missing, "give each of these a row in docs/troubleshooting.md:\n" + "\n".join(missing)


@pytest.mark.parametrize("entry", listed())
def test_every_row_is_of_a_message(entry):
    assert any(pattern(entry).search(text) for _, text in MESSAGES), "no error says this any more: take out its row"
