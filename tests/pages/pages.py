"""Code as the pages show it: blocks, and how each of them is run.

A page is a session: its blocks are run in order, in one folder and with one set of Python names. A comment before a
block says what else is to be done with it: `<!-- file: NAME -->`, it is the content of a file; `<!-- not run: WHY -->`.
"""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")],
    key=lambda path: path.relative_to(ROOT).as_posix(),
)
_BLOCK = re.compile(r"(?:<!-- (file|not run): ([^\n]*?) -->\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`((?:uv run )?python (?:train\.py|-m meta_hamiltonian) [^`]*)`")


class Block(NamedTuple):
    """A fenced block: its language, its text, and what the comment before it says."""

    language: str
    text: str
    mark: str
    said: str

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command, without comments and without what installs and what `uv` is for."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines for words in commands_of(line) if words]


def commands_of(line: str) -> list[list[str]]:
    """The commands that `&&` joins."""
    parts = [[]]
    for word in shlex.split(line, comments=True):
        if word == "&&":
            parts.append([])
        else:
            parts[-1].append(word)
    return [part[2:] if part[:2] == ["uv", "run"] else part for part in parts]


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks with a language."""
    return [Block(language, text, mark, said) for mark, said, language, text in _BLOCK.findall(page.read_text("utf-8"))]


def inline_commands(page: Path) -> list[list[str]]:
    """Commands of this project in running text and in tables, as far as they are complete."""
    found = (commands_of(text.replace("\n", " "))[0] for text in _INLINE.findall(page.read_text("utf-8")))
    return [words for words in found if not {"...", "FIGURE", "FOLDER"} & set(words)]
