"""Opens a page in Chromium, where it is installed, and reads what its script says."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def answer(page: str, script: str, folder: Path, width: int = 1400) -> Any:
    """What the script, the body of an asynchronous function, returns of a page in a frame of this width.

    Errors on the console, and anything that is loaded from elsewhere, are failures.
    """
    assert CHROMIUM is not None
    said = f"""<script>addEventListener("load", async () => {{
      let found; try {{ found = await (async () => {{ {script} }})(); }} catch (error) {{ found = `${{error}}`; }}
      const loaded = performance.getEntriesByType("resource").map(one => one.name).filter(n => !n.startsWith("data:"));
      parent.document.title = JSON.stringify({{found, loaded}});
    }});</script>"""
    (folder / "page.html").write_text(page + said, encoding="utf-8")
    # A window of the browser is at least 500 wide; a frame is as wide as it is told.
    (folder / "frame.html").write_text(f'<iframe src="page.html" width="{width}" height="900"></iframe>')
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    options = ["--allow-file-access-from-files", "--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom"]
    done = subprocess.run(
        [*command, *options, (folder / "frame.html").as_uri()], capture_output=True, text=True, timeout=200, check=True
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    (title,) = re.findall("<title>(.*)</title>", done.stdout, re.DOTALL)
    told = json.loads(title.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
    assert told["loaded"] == []
    return told["found"]
