"""Coordinates with names of their own: a position, and a momentum or velocity that is named after it."""

from collections.abc import Sequence

from meta_hamiltonian.dynamics.space import Axes
from meta_hamiltonian.observations.names import ANGULAR, LINEAR, Vocabulary, key, momenta, rates, readings

_PLAIN = Vocabulary(Axes.plain(2))
# The usual names of positions; time is none, beside which dt is no velocity.
_POSITIONS = ("q", "y", "z")
# The names that a table uses for motion. Where one of them is left without a partner, partners by name are chance.
_MOTION = (*_POSITIONS, "p", "v", "rate", "dp")


def own_names(columns: Sequence[str]) -> tuple[str, ...]:
    """The names of positions such as `r` and `theta`, beside which `p_r` and `p_theta`, or their velocities, are named.

    In a table with the usual names of coordinates (`q1`, `theta2`, or `x` and `y`), there are none.
    """
    usual = [_PLAIN.meaning(name) for name in columns]
    if any(meaning is not None and meaning.index for meaning in usual):
        return ()
    found: dict[int, str] = {}
    partners: set[int] = set()
    for i, name in enumerate(columns):
        meaning = usual[i]
        if meaning is not None and meaning.quantity not in _POSITIONS:
            continue
        for base in _bases(name):
            word = key(base)
            after = {f"v{word}", *rates(word), *momenta(word)}
            if named_after := {j for j, other in enumerate(columns) if j != i and after & _keys(other)}:
                found[i] = base
                partners |= named_after
                break
    positions = {i: base for i, base in found.items() if i not in partners}
    spare = {
        i for i, m in enumerate(usual) if m is not None and m.quantity in _MOTION and i not in {*positions, *partners}
    }
    for words, angular in ((ANGULAR, True), (LINEAR, False)):
        moving = [i for i in spare if _keys(columns[i]) & {word for names in words.values() for word in names}]
        kinds = {i: m.kind for i in spare if (m := usual[i]) is not None and m.quantity == "q"}
        still = [i for i, kind in kinds.items() if kind and (kind == "angle") is angular]
        if len(moving) == len(still) == 1:
            positions[still[0]] = next(base for base in _bases(columns[still[0]]) if _PLAIN.known(base))
            spare -= {*moving, *still}
    meanings = [usual[i] for i in positions]
    alone = len(positions) == 1 and all(m is not None and m.quantity == "q" for m in meanings)
    axes = all(m is not None and m.axis for m in meanings)
    return () if spare or alone or axes else tuple(positions[i] for i in sorted(positions))


def _bases(name: str) -> list[str]:
    """What a name may be without its unit, the shortest first."""
    return sorted({base.strip() for base, _ in readings(name)} - {""}, key=len)


def _keys(name: str) -> set[str]:
    return {key(base) for base, _ in readings(name)}
