"""Coordinates with names of their own: a position, and a momentum or velocity that is named after it."""

import re
from collections.abc import Iterator, Sequence, Set

from meta_hamiltonian.observations.names import ANGULAR, LINEAR, NUMBERED, key, momenta, rates, readings, usual_meaning

# The usual names of positions; time is none, beside which dt is no velocity.
_POSITIONS = ("q", "y", "z")
# The names that a table uses for motion. Where one of them is left without a partner, partners by name are chance.
_MOTION = (*_POSITIONS, "p", "v", "rate", "dp")
# A letter before a name that is set apart from it.
_PREFIX = re.compile(r"[pv][\s_.\-]", re.IGNORECASE)


def own_names(columns: Sequence[str]) -> tuple[str, ...]:
    """The names of positions such as `r` and `theta`, beside which `p_r` and `p_theta`, or their velocities, are named;
    or of those of several bodies, such as `x1`, `y1`, `x2` and `y2`.

    In a table with the usual names of coordinates (`q1`, `theta2`, or `x` and `y`), there are none.
    """
    usual = [usual_meaning(name) for name in columns]
    motion = {i: m for i, m in enumerate(usual) if m is not None and m.quantity in _MOTION}
    numbered = {base for name in columns for base in _bases(name) if NUMBERED.fullmatch(key(base))}
    alone = len(numbered) == 1 and not motion  # x1 without v1 may be anything
    if numbered and not alone and all(m.index and m.quantity not in _POSITIONS for m in motion.values()):
        # v1 belongs to x1, whatever the order of the columns.
        return tuple(sorted(numbered, key=lambda base: (int(key(base)[1:]), key(base))))
    if any(meaning is not None and meaning.index for meaning in usual):
        return ()
    positions, partners = _pairs(columns)
    spare = motion.keys() - {*positions, *partners}
    if all(partners.values()):
        for position, rate in _one_of_a_kind(columns, spare):
            positions[position] = next(base for base in _bases(columns[position]) if usual_meaning(base) is not None)
            spare = spare - {position, rate}
    alone = len(positions) == 1 and all(i in motion for i in positions)
    axes = all(i in motion and motion[i].axis for i in positions)
    return () if spare or alone or axes else tuple(positions[i] for i in sorted(positions))


def _pairs(columns: Sequence[str]) -> tuple[dict[int, str], dict[int, bool]]:
    """The names of positions beside which other columns are named after them; and these columns, and which of them
    surely are."""
    found: dict[int, str] = {}
    partners: dict[int, bool] = {}
    for i, name in enumerate(columns):
        if (meaning := usual_meaning(name)) is not None and meaning.quantity not in _POSITIONS:
            continue
        for base in _bases(name):
            after = {j: sure for j, other in enumerate(columns) if (sure := _named_after(other, base)) is not None}
            if after:
                found[i] = base
                partners |= after
                break
    return {i: base for i, base in found.items() if i not in partners}, partners


def _named_after(name: str, position: str) -> bool | None:
    """Whether a column is surely named after a position: `p_h` is, `ph` or `dh` may be by chance. None if it is not."""
    word = key(position)
    if not {f"v{word}", *rates(word), *momenta(word)} & _keys(name):
        return None
    return _PREFIX.match(name) is not None or not _keys(name) & {f"v{word}", f"d{word}", f"p{word}"}


def _one_of_a_kind(columns: Sequence[str], spare: Set[int]) -> Iterator[tuple[int, int]]:
    """The only angle and what is called `omega`, and the only length and what is called `v`."""
    for words, angular in ((ANGULAR, True), (LINEAR, False)):
        named = {word for names in words.values() for word in names}
        moving = [i for i in spare if _keys(columns[i]) & named]
        kinds = {i: m.kind for i in spare if (m := usual_meaning(columns[i])) is not None and m.quantity == "q"}
        still = [i for i, kind in kinds.items() if kind and (kind == "angle") is angular]
        if len(moving) == len(still) == 1:
            yield still[0], moving[0]


def _bases(name: str) -> list[str]:
    """What a name may be without its unit, the shortest first."""
    return sorted({base.strip() for base, _ in readings(name)} - {""}, key=len)


def _keys(name: str) -> set[str]:
    return {key(base) for base, _ in readings(name)}
