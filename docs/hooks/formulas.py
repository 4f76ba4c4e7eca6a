"""Formulas become MathML while the site is built: browsers draw it themselves, without a script and without a font."""

import html
import re

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: object) -> str:
    """Replaces what `pymdownx.arithmatex` has marked."""

    def drawn(found: re.Match[str]) -> str:
        kind, bracket, formula = found.groups()
        display = "inline" if bracket == "(" else "block"
        return f'<{kind} class="formula">{convert(html.unescape(formula), display=display)}</{kind}>'

    return _FORMULA.sub(drawn, content)
