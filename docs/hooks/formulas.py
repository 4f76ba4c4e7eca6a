"""Formulas become MathML while the site is built: browsers draw it themselves, without a script and without a font.

A formula with `\\tag{n}` has its number at the margin, and the anchor `#eqn`.
"""

import html
import re

from latex2mathml.converter import convert

_NUMBER = re.compile(r"\\tag\{(\d+)\}")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: object) -> str:
    """Replaces what `pymdownx.arithmatex` has marked."""

    def drawn(found: re.Match[str]) -> str:
        kind, bracket, formula = found.groups()
        display = "inline" if bracket == "(" else "block"
        number = _NUMBER.search(formula)
        drawing = convert(html.unescape(_NUMBER.sub("", formula)), display=display)
        if number is None:
            return f'<{kind} class="formula">{drawing}</{kind}>'
        return f'<div class="formula numbered" id="eq{number[1]}">{drawing}<span>({number[1]})</span></div>'

    return _FORMULA.sub(drawn, content)
