"""Which column of a file is which quantity."""

import contextlib
import dataclasses
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence, Set

from meta_hamiltonian.dynamics.space import Space
from meta_hamiltonian.observations.forms import ObservationError, at_place, named, shown
from meta_hamiltonian.observations.layout import LABEL, check_dimension, find_form, missing_words
from meta_hamiltonian.observations.names import Meaning, Vocabulary, is_acceleration, of_logarithm, same_name
from meta_hamiltonian.observations.sheet import Sheet

_COMPLETE = (("q", "p", "dq", "dp"), ("t", "q"), ("t", "v"), ("t", "x", "y"))


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns hold what, by their positions.

    - `of`: quantity -> its columns, one a degree of freedom: t, q, p, v, dq and dp as the form has them; u for inputs,
        x and y for positions around a pivot.
    - `form`: the quantities of the form; without q where it is found from x and y, or is the integral of v.
    - `gyroscopes`: the three axes of a gyroscope, one of which is v.
    - `label`: the column of trajectories.
    - `units`: what the names say, by position.
    - `ignored`: the names of the others.
    - `logarithms`: those of which the logarithm is wanted, by position.
    - `of_positives`: the coordinates that are logarithms of positive quantities, as (`q`, 0): by the name of the
        column, by the domain, or because the logarithm is wanted. They need no unit: another adds a constant to them.
    """

    of: Mapping[str, Sequence[int]]
    form: Sequence[str]
    gyroscopes: Sequence[int]
    label: int | None
    units: Mapping[int, str]
    ignored: Sequence[str]
    logarithms: Sequence[int]
    of_positives: Set[tuple[str, int]]


def find_columns(sheet: Sheet, domain: Space, vocabulary: Vocabulary, wanted: Mapping[str, str]) -> Columns:
    """Finds the quantities, by the names of the columns or as they were wished for.

    **Arguments:** `wanted`: quantity -> the name or the position of its column.

    **Raises:** [`ObservationError`][], where a quantity is missing, or where two columns could be one.
    """
    with at_place(sheet.header) if sheet.header else contextlib.nullcontext():
        return _find(sheet, domain, vocabulary, wanted)


def _find(sheet: Sheet, domain: Space, vocabulary: Vocabulary, wanted: Mapping[str, str]) -> Columns:
    names, n, noun = sheet.names, domain.degrees_of_freedom, sheet.noun
    if not sheet.named and not wanted:
        raise ObservationError(
            f"it holds numbers where the {noun}s should be named; begin with {missing_words(n).removeprefix('give ')}, "
            "or by their positions, such as --columns t=1,q=2"
        )
    wanted, logarithms = _positives(sheet, wanted)
    chosen = {quantity: _position(sheet, quantity, name, n) for quantity, name in wanted.items()}
    for position, count in Counter(chosen.values()).items():
        if count > 1:
            asked = " and ".join(quantity for quantity, i in chosen.items() if i == position)
            raise ObservationError(f"--columns: {asked} cannot both be {shown(names[position])}; give each its own")
    meanings = {
        i: meaning
        for i, name in enumerate(names)
        if i not in chosen.values() and (meaning := vocabulary.meaning(name)) is not None
    }
    units = {i: sheet.units[i] or (m.unit if (m := vocabulary.meaning(name)) else "") for i, name in enumerate(names)}
    repeated = [name for name, count in Counter(names[i] for i in meanings).items() if count > 1]
    if repeated:
        raise ObservationError(f"repeated {named(noun, map(shown, repeated))}; keep one of each")

    stems = {quantity.rstrip("0123456789") for quantity in chosen}
    if any(stems.issuperset(form) for form in _COMPLETE):
        meanings = {i: meaning for i, meaning in meanings.items() if meaning.quantity in ("u", LABEL)}
    candidates = _candidates(meanings, domain, {quantity: [i] for quantity, i in chosen.items()}, stems)
    found: dict[str, int] = {}
    for quantity, positions in candidates.items():
        if len(positions) > 1:
            raise ObservationError(ambiguous(sheet, quantity, positions))
        found[quantity] = positions[0]
    _check_inputs(sheet, [q for q in found if q.startswith("u")])

    gyroscopes = [i for i, m in meanings.items() if m.quantity == "gyro"]
    if n > 1 or any(quantity.rstrip("0123456789") in ("v", "p", "dq") for quantity in found):
        gyroscopes = []
    if len(gyroscopes) == 1:
        found["v"] = gyroscopes.pop()
    tracked = n == 1 and {"x", "y"} <= found.keys()
    _check_one_axis(sheet, meanings, found, tracked, n)
    around = tracked and "q" not in found and "q1" not in found
    if not around and ({"x", "y"} & chosen.keys()):
        raise ObservationError(
            "x and y are read for one angle around a pivot, and together; give --columns t=NAME,x=NAME,y=NAME"
        )
    ours = [q for q in found if q.rstrip("0123456789") in ("t", "q", "p", "v", "dq", "dp")]
    if around:
        ours = ["t", "q"] if "t" in found else ["q"]
    elif gyroscopes:
        ours.append("v")
    try:
        form = find_form(ours, n, noun)
    except ObservationError as error:
        raise _explained(sheet, error, meanings, chosen, domain) from error
    if noun == "column":
        check_dimension(len(form.get("q", form.get("v", []))), n)
    of = {quantity: [found[name] for name in columns if name in found] for quantity, columns in form.items()}
    if gyroscopes:
        of.pop("v")
    if around:
        of.pop("q")
    if tracked:
        of |= {"x": [found["x"]], "y": [found["y"]]}
    if "t" not in form and any(q.startswith("u") for q in found):
        raise ObservationError("inputs u are read beside trajectories, not beside derivatives; leave the column out")
    if "t" in form and (inputs := sorted((q for q in found if q.startswith("u")), key=lambda q: int(q[1:] or 0))):
        of["u"] = [found[q] for q in inputs]
    label = found.get(LABEL) if "t" in form else None
    used = {i for positions in of.values() for i in positions} | {*gyroscopes, label}
    ignored = [name for i, name in enumerate(names) if i not in used and name]
    if logarithms and (rates := [q for q in form if q in ("v", "dq", "dp")]):
        raise ObservationError(
            f"logarithms are taken of {' and '.join(logarithms)}, but not of {' and '.join(rates)}; give t,q,p alone"
        )
    taken = [chosen[q] for q in logarithms]
    of_positives = _of_positives(sheet, of, domain, taken)
    return Columns(of, tuple(form), gyroscopes, label, units, ignored, taken, of_positives)


def _positives(sheet: Sheet, wanted: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The wishes with `prey` for `ln prey` where only the column `prey` is there, and the quantities of such."""
    names, logarithms = dict(wanted), []
    for quantity, name in wanted.items():
        positive = of_logarithm(name)
        if quantity[:1] in "qp" and positive is not None and not any(same_name(name, one) for one in sheet.names):
            names[quantity] = positive
            logarithms.append(quantity)
    return names, logarithms


def _of_positives(
    sheet: Sheet, of: Mapping[str, Sequence[int]], domain: Space, taken: Sequence[int]
) -> set[tuple[str, int]]:
    """Which coordinates are logarithms of positive quantities."""
    n = domain.degrees_of_freedom
    found = set()
    for quantity, coordinates in {"q": domain.coordinates[:n], "p": domain.coordinates[n:]}.items():
        positions = of.get(quantity, ())
        for i, coordinate in enumerate(coordinates if positions else ()):
            position = positions[min(i, len(positions) - 1)]  # an array holds several
            named = of_logarithm(sheet.names[position]) is not None
            if named or position in taken or coordinate.kind == "logarithm":
                found.add((quantity, i))
    return found


def _position(sheet: Sheet, quantity: str, name: str, n: int) -> int:
    """The column that was wished for, by its name or by its position from 1 on."""
    stem = quantity.rstrip("0123456789")
    if stem not in ("t", "q", "p", "v", "dq", "dp", "u", "x", "y", LABEL) or (
        stem != quantity and stem in ("t", "x", "y", LABEL)
    ):
        raise ObservationError(
            f"--columns {quantity}={name}: {shown(quantity)} is no quantity; "
            "name t, q, p, v, dq, dp, u, x, y or trajectory"
        )
    for same in (str.__eq__, same_name):
        positions = [i for i, other in enumerate(sheet.names) if same(other, name)]
        if len(positions) == 1:
            return positions[0]
        if positions:
            places = " or ".join(f"{quantity}={i + 1}" for i in positions)
            raise ObservationError(
                f"--columns {quantity}={name}: several {sheet.noun}s have this name; say its position: {places}"
            )
    if name.isascii() and name.isdigit() and 1 <= int(name[:9]) <= len(sheet.names):
        return int(name) - 1
    base = [i for i, other in enumerate(sheet.names) if same_name(other.split("(")[0].split("[")[0], name)]
    if len(base) == 1:
        return base[0]
    names = named(sheet.noun, map(shown, filter(None, sheet.names)), 12)
    raise ObservationError(f"--columns {quantity}={name}: there is no such {sheet.noun}; choose from {names}")


def _candidates(
    meanings: Mapping[int, Meaning], domain: Space, chosen: dict[str, list[int]], stems: set[str]
) -> dict[str, list[int]]:
    """The columns that could be each quantity, as `q` or numbered; those that were chosen are out of question."""
    n = domain.degrees_of_freedom
    found = dict(chosen)
    axes = {m.axis for m in meanings.values() if m.quantity in ("q", "y", "z") and m.axis}
    spatial = 1 < n == len(axes) and not any(m.index for m in meanings.values() if m.quantity == "q")
    momenta = bool(stems & {"p", "dp"}) or any(m.quantity in ("p", "dp") for m in meanings.values())
    for i, meaning in meanings.items():
        quantity, index = meaning.quantity, meaning.index
        if meaning.axis and spatial and quantity in ("q", "y", "z", "rate", "p"):
            quantity, index = {"y": "q", "z": "q"}.get(quantity, quantity), "xyz".index(meaning.axis) + 1
        elif quantity == "q" and not _fits(meaning, domain):
            quantity = "x" if meaning.axis == "x" else ""
        elif (
            quantity == "rate"
            and meaning.axis
            and (meaning.axis != "x" or n > 1 or domain.coordinates[0].kind == "angle")
        ) or (quantity == "p" and meaning.axis):
            continue
        if quantity == "rate":
            quantity = "dq" if momenta else "v"
        if quantity in ("", "z", "gyro", "frame"):
            continue
        name = quantity if index is None else f"{quantity}{index}"
        if name not in chosen and not (n == 1 and chosen.keys() & {quantity, f"{quantity}1"}):
            found.setdefault(name, []).append(i)
    return found


def _fits(meaning: Meaning, domain: Space) -> bool:
    """Whether a position of this kind is one of the model's: a length is no angle."""
    positions = domain.coordinates[: domain.degrees_of_freedom]
    if meaning.index is not None:
        positions = positions[meaning.index - 1 : meaning.index]
    angles = [one.kind == "angle" or one.unit in ("rad", "deg") for one in positions]
    if meaning.kind == "length":
        return not angles or not all(angles)
    return meaning.kind != "angle" or not angles or any(angles) or any(not one.unit for one in positions)


def _check_one_axis(
    sheet: Sheet, meanings: Mapping[int, Meaning], found: Mapping[str, int], tracked: bool, n: int
) -> None:
    """**Raises:** [`ObservationError`][], where x was taken for the only position, but y is there too."""
    if n > 1 or tracked or not {"q", "y"} <= found.keys():
        return
    if (meaning := meanings.get(found["q"])) is not None and meaning.axis:
        ways = " or ".join(option(sheet, {"q": found[quantity]}) for quantity in ("q", "y"))
        raise ObservationError(f"it moves along x and y, but the model has one position; say which it is: {ways}")


def _check_inputs(sheet: Sheet, inputs: Sequence[str]) -> None:
    numbers = sorted(int(name[1:] or 0) for name in inputs)
    if numbers not in ([], [0], list(range(1, len(numbers) + 1))):
        raise ObservationError(f"the inputs are {', '.join(sorted(inputs))}; call one u, and several u1, u2 and so on")


def ambiguous(sheet: Sheet, quantity: str, positions: Sequence[int]) -> str:
    """What to type where several columns could be one quantity."""
    listed = " and ".join(shown(sheet.names[i]) for i in positions)
    ways = " or ".join(option(sheet, {quantity: i}) for i in positions[:3])
    return f"{sheet.noun}s {listed} could each be {quantity}; say which it is: {ways}"


def option(sheet: Sheet, positions: Mapping[str, int]) -> str:
    """How to say which column each quantity is."""
    said = []
    for quantity, position in positions.items():
        name = sheet.names[position]
        plain = name.isprintable() and "," not in name and "=" not in name and list(sheet.names).count(name) == 1
        said.append(f"{quantity}={name if plain else position + 1}")
    return f"--columns {shlex.quote(','.join(said))}"


def _explained(
    sheet: Sheet, error: ObservationError, meanings: Mapping[int, Meaning], chosen: Mapping[str, int], domain: Space
) -> ObservationError:
    """What is missing, with the columns that may be it."""
    n, noun = domain.degrees_of_freedom, sheet.noun
    names = {i: name for i, name in enumerate(sheet.names) if name and i not in chosen.values()}
    quantities = {meaning.quantity for meaning in meanings.values()} | {q.rstrip("0123456789") for q in chosen}
    unknown = {i: name for i, name in names.items() if i not in meanings}
    positions = [i for i, m in meanings.items() if m.quantity == "q" and not _fits(m, domain)]
    frames = [i for i, m in meanings.items() if m.quantity == "frame"]
    if "lacks" not in str(error):
        return error
    if "t" not in quantities and frames and {"q", "v", "y"} & quantities:
        count = option(sheet, {"t": frames[0]})
        return ObservationError(
            f"it has no time, but {noun} {shown(names[frames[0]])}; "
            f"for 30 frames a second type {count} --units 't=1/30 s'"
        )
    if (
        positions
        and not {"v", "gyro"} & quantities
        and not any(m.quantity == "q" and _fits(m, domain) for m in meanings.values())
    ):
        kind = "lengths" if meanings[positions[0]].kind == "length" else "angles"
        listed = named(noun, (shown(names[i]) for i in positions))
        other = "an angle" if kind == "lengths" else "a length"
        pivot = "give x and y around the pivot, or " if kind == "lengths" and n == 1 else ""
        return ObservationError(
            f"{listed} {'is' if len(positions) == 1 else 'are'} named as {kind}, but the model's q is {other}; {pivot}"
            f"if it is the right one type {option(sheet, {'q' if n == 1 else 'q1': positions[0]})}"
        )
    accelerations = [name for name in names.values() if is_acceleration(name)]
    if accelerations and not {"q", "v", "gyro", "y"} & quantities:
        return ObservationError(
            f"{named(noun, map(shown, accelerations))} are accelerations, from which no motion is found; "
            "record angles or the gyroscope, or say which column is q: --columns q=NAME"
        )
    if unknown:
        return ObservationError(f"unknown {named(noun, map(shown, unknown.values()))}; {missing_words(n)}")
    return error
