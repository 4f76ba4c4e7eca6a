"""One HTML file that explains one adapted system, its figures inside it."""

import base64
import html
from collections.abc import Mapping, Sequence

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
img { max-width: 100%; height: auto; background: white; }
.figures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; } figcaption { font-size: .9rem; }
table { border-collapse: collapse; } th, td { padding: .25rem .75rem .25rem 0; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; }
.warning { border-left: .3rem solid #D55E00; padding-left: .75rem; }
"""


def page(
    title: str,
    table: Mapping[str, str],
    notes: Sequence[str],
    warnings: Sequence[str],
    figures: Mapping[str, tuple[bytes, str]],
    style: str = "",
    section: str = "",
) -> str:
    """The file's text.

    **Arguments:**

    - `table`: the main results in a few words, by name.
    - `notes`, `warnings`: what was assumed, and what may be wrong.
    - `figures`: PNG files with their captions, by name.
    - `style`, `section`: CSS, and a part of the page before its figures.
    """
    cells = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in table.items())
    warned = "".join(f'<p class="warning">{html.escape(text)}</p>' for text in warnings)
    assumed = "".join(f"<li>{html.escape(text)}</li>" for text in notes)
    images = "".join(_image(name, *figure) for name, figure in figures.items())
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>Adapted system</title><style>{_STYLE}{style}</style></head><body>'
        f"<h1>{html.escape(title)}</h1>{warned}<table>{cells}</table>"
        f"<h2>Assumptions</h2><ul>{assumed or '<li>None: states and derivatives were observed.</li>'}</ul>"
        f'{section}<h2>Figures</h2><div class="figures">{images}</div></body></html>\n'
    )


def _image(name: str, png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode()
    alt, text = html.escape(name), html.escape(caption)
    return f'<figure><img alt="{alt}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
