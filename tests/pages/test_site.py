"""The site: it is built without a warning, opens in a browser without an error, and asks nobody else for anything."""

import functools
import http.server
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from html.parser import HTMLParser

import griffe
import pytest
from pages import ROOT

# Every page in a frame of each width, one after another.
LOOK = """<!doctype html><body><script>
async function look() {
  const found = [];
  for (const page of PAGES) for (const width of [400, 1400]) {
    const frame = document.createElement("iframe");
    Object.assign(frame, {width, height: 900, src: page});
    document.body.append(frame);
    await new Promise(loaded => frame.onload = loaded);
    const inside = frame.contentDocument;
    const images = [...inside.images].every(image => image.complete && image.naturalWidth > 0);
    found.push({page, width, fits: inside.documentElement.scrollWidth <= width, images});
    frame.remove();
  }
  fetch("found", {method: "POST", body: JSON.stringify(found)});
}
look();
</script>"""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
sys.path.append(str(ROOT / "docs" / "hooks"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Built as `uv run mkdocs build --strict` builds it, so that the gate need not do so again."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site") / "site"
    logging.getLogger("mkdocs").setLevel(logging.WARNING)
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


class Page(HTMLParser):
    """What a page loads, where it leads to, and its anchors."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.links, self.anchors = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {given["id"]} if given.get("id") else set()
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("prev", "next", "canonical"):
            self.loaded.append(given.get("href"))
        elif given.get("src"):
            self.loaded.append(given["src"])


def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site):
    pages = {file: Page(file.read_text("utf-8")) for file in site.rglob("*.html") if file.name != "404.html"}
    assert len(pages) > 20
    for file, page in pages.items():
        for address in page.loaded:
            assert "://" not in address, f"{file.name} loads {address}"
            assert (file.parent / address.partition("?")[0]).exists(), f"{file.name} loads {address}"
        for link in page.links:
            if re.match(r"\w+:", link):
                continue
            path, _, anchor = link.partition("#")
            to = (file.parent / path).resolve() if path else file
            assert to.is_file(), f"{file.name} links to {link}"
            assert not anchor or to.suffix != ".html" or anchor in pages[to].anchors, f"{file.name} links to {link}"
    for style in [*site.rglob("*.css")]:
        assert "url(http" not in style.read_text("utf-8")


def test_formulas_are_drawn_by_the_browser_itself(site):
    theory = (site / "theory.html").read_text("utf-8")
    assert theory.count("<math ") > 30
    assert "arithmatex" not in theory
    assert not re.search(r"<m[ion]>\\", theory), "a command of LaTeX that is not known"


def test_every_numbered_equation_is_named_in_the_code():
    theory = (ROOT / "docs" / "theory.md").read_text("utf-8")
    numbers = re.findall(r"\\tag\{(\d+)\}", theory)
    assert numbers == [str(i + 1) for i in range(len(numbers))]
    code = " ".join(file.read_text("utf-8") for file in (ROOT / "src").rglob("*.py"))
    for number in numbers:
        assert re.search(rf"[Ee]quations?\s+\({number}\)|[Ee]quations \(\d+\) and \({number}\)", code), number


def test_every_reference_in_a_docstring_names_something():
    """Also in those docstrings that the site does not show."""
    from references import REFERENCE, by_name, objects, target

    package = griffe.load("meta_hamiltonian", search_paths=[ROOT / "src"], allow_inspection=False, resolve_aliases=True)
    named = by_name(package)
    found = [
        (one.path, name, target(name, one, named))
        for one in objects(package)
        if one.docstring is not None
        for name in REFERENCE.findall(one.docstring.value)
    ]
    assert len(found) > 100
    assert not [(place, name) for place, name, path in found if path is None]


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_pages_open_in_a_browser(site, tmp_path):
    """At the width of a telephone and of a desk: no error on the console, nothing wider than the window."""
    found, asked, finished = [], [], threading.Event()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *said):
            pass

        def log_request(self, code="-", size="-"):
            asked.append((self.path, int(code)))

        def do_POST(self):
            found.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            finished.set()

    pages = sorted(file.relative_to(site).as_posix() for file in site.rglob("*.html") if file.name != "404.html")
    (site / "look.htm").write_text(LOOK.replace("PAGES", json.dumps(pages)))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    # No name of another machine is looked up.
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
    address = f"http://127.0.0.1:{server.server_port}/look.htm"
    with (tmp_path / "said").open("w+") as said:
        browser = subprocess.Popen([str(CHROMIUM), *options, address], stderr=said, start_new_session=True)
        try:
            assert finished.wait(120), (tmp_path / "said").read_text()
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()
            server.shutdown()
    assert "CONSOLE" not in (tmp_path / "said").read_text(), (tmp_path / "said").read_text()
    assert len(found) == 2 * len(pages)
    assert not [one for one in found if not (one["fits"] and one["images"])]
    missing = [path for path, code in asked if code >= 400 and path != "/favicon.ico"]
    assert not missing
