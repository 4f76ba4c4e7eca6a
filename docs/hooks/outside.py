"""Links from a page to the rest of the repository lead somewhere in a clone; on the site they become plain text."""

import re
from pathlib import Path
from posixpath import normpath

from mkdocs.structure.pages import Page

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Keeps links to other pages, and lets go of those that leave `docs`."""
    here = Path(page.file.src_uri).parent.as_posix()

    def kept(link: re.Match[str]) -> str:
        return link[1] if normpath(f"{here}/{link[2]}").startswith("..") else link[0]

    return _LINK.sub(kept, markdown)
