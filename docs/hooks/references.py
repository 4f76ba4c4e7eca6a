"""Cross-references in docstrings: [`Domain`][] is whatever `Domain` is where the docstring stands.

Names are looked up in the object, its class, its module and what that imports; a name that only one object of the
package has needs no import. A reference to what has no place in the API pages becomes plain code.
"""

import re
from collections import defaultdict
from pathlib import Path

import griffe

REFERENCE = re.compile(r"\[`([\w.]+)`\]\[\]")
_DIRECTIVE = re.compile(r"^::: (\S+)", re.MULTILINE)


class References(griffe.Extension):
    """Gives every reference its full path.

    **Arguments:** `pages`: the folder of the API pages, whose `:::` lines say what is documented.
    """

    def __init__(self, pages: str):
        self._pages = Path(pages)

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: object) -> None:
        """Rewrites all docstrings of the package."""
        loader.resolve_aliases(implicit=False)
        named = by_name(pkg)
        listed = [name for page in self._pages.glob("*.md") for name in _DIRECTIVE.findall(page.read_text())]
        shown = {canonical(pkg[name.removeprefix(f"{pkg.name}.")]) for name in listed}
        for one in objects(pkg):
            if one.docstring is not None:
                one.docstring.value = REFERENCE.sub(
                    lambda link, one=one: _linked(link[1], one, named, shown), one.docstring.value
                )


def _linked(name: str, where: griffe.Object, named: dict[str, list[str]], shown: set[str]) -> str:
    path = target(name, where, named)
    if path is None:
        raise LookupError(f"{where.path}: [`{name}`][] names nothing, or several things")
    parents = {path.rsplit(".", cut)[0] for cut in range(path.count("."))}
    return f"[`{name}`][{path}]" if parents & shown else f"`{name}`"


def target(name: str, where: griffe.Object, named: dict[str, list[str]]) -> str | None:
    """The full path of what a name means in a docstring; None where it is not known, or not unique."""
    first, *rest = name.split(".")
    try:
        one = _found(first, where, named)
        for part in rest:
            one = one.all_members[part]
        return canonical(one)
    except (KeyError, griffe.NameResolutionError, griffe.AliasResolutionError):
        return None


def _found(name: str, where: griffe.Object, named: dict[str, list[str]]) -> griffe.Object | griffe.Alias:
    owner = where if where.is_class else where.parent
    if owner is not None and owner.is_class and name in owner.all_members:  # inherited members, too
        return owner.all_members[name]
    if len(named[name]) == 1:
        return where.modules_collection[named[name][0]]
    return where.modules_collection[where.resolve(name)]


def canonical(one: griffe.Object | griffe.Alias) -> str:
    """Where it is defined."""
    return one.final_target.path if one.is_alias else one.path


def objects(one: griffe.Object) -> "list[griffe.Object]":
    """It and everything that is defined in it."""
    return [one, *(inner for member in one.members.values() if not member.is_alias for inner in objects(member))]


def by_name(package: griffe.Module) -> dict[str, list[str]]:
    """The full paths of all objects with this name."""
    named = defaultdict(list)
    for one in objects(package):
        named[one.name].append(one.path)
    return named
