"""Which columns or arrays of a file hold what."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from meta_hamiltonian.observations.forms import ObservationError, named, shown

FORMS = {("q", "p", "dq", "dp"): 1, ("t", "q", "p"): 3, ("t", "q", "v"): 3, ("t", "q"): 4}
"""The quantities that a file may hold, and how many rows it (for trajectories: each of them) needs at least."""

LABEL = "trajectory"
"""The column that tells trajectories apart."""

NAME = re.compile(r"t|trajectory|(?:q|p|v|dq|dp)([1-9][0-9]{0,5})?")
# Not what Python's float() takes beyond it, such as 1_000 or digits of other scripts.
NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which columns hold what: quantity -> its columns, one a degree of freedom."""

    columns: Mapping[str, Sequence[str]]
    labelled: bool


@dataclasses.dataclass(frozen=True)
class Table:
    """What was read, from either kind of file.

    - `values`: quantity -> its values.
    - `labels`: of the rows, where there is a column `trajectory`.
    - `places`: where each row stands, for errors.
    """

    values: Mapping[str, Float[np.ndarray, "rows _"]]
    labels: Sequence[str] | None
    places: Sequence[str]


def find_layout(names: Sequence[str], n: int, noun: str) -> Layout:
    """Finds the form, or says what is wrong with the names.

    **Arguments:** `n`: degrees of freedom of the model, in which the forms are spelled; `noun`: what has these names.
    """
    if "" in names:
        raise ObservationError(
            f"{noun} {names.index('') + 1} has no name; name it or leave it out; give {forms_words(n)}"
        )
    if all(NUMBER.fullmatch(name) for name in names):
        raise ObservationError(f"it holds numbers where the {noun}s should be named; begin with {forms_words(n)}")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ObservationError(f"repeated {named(noun, map(shown, repeated))}; keep one of each")
    unknown = [name for name in names if not NAME.fullmatch(name)]
    if unknown:
        hint = "; separate columns by commas" if len(names) == 1 and noun == "column" else ""
        raise ObservationError(f"unknown {named(noun, map(shown, unknown))}{hint}; give {forms_words(n)}")

    coordinates = [name for name in names if name not in ("t", LABEL)]
    numbered = {name: int(match[1]) for name in coordinates if (match := NAME.fullmatch(name)) and match[1]}
    plain = [name for name in coordinates if name not in numbered]
    if plain and numbered:
        raise ObservationError(f"{noun}s {plain[0]} and {next(iter(numbered))} do not fit; number all, or none")
    last = max(numbered, key=lambda name: numbered[name], default=None)
    dofs = 1 if last is None else numbered[last]
    if dofs > len(names):
        raise ObservationError(f"{noun} {last} skips numbers; number from 1 on")

    present = set(names)
    columns = {form: columns_of(form, dofs if numbered else None) for form in FORMS}
    missing = {form: [name for name in flat(columns[form]) if name not in present] for form in FORMS}
    extra = {form: _superfluous(names, flat(columns[form])) for form in FORMS}
    nearest = min(FORMS, key=lambda form: len(missing[form]) + 2 * len(extra[form]))
    if missing[nearest] or extra[nearest]:
        quantities = {name.rstrip("0123456789") for name in coordinates}
        if quantities == {"q", "p", "v"}:
            raise ObservationError(f"p and v together are no form; leave one of them out: give {forms_words(n)}")
        wrong = [f"lacks {named(noun, missing[nearest])}"] if missing[nearest] else []
        wrong += [f"has superfluous {named(noun, extra[nearest])}"] if extra[nearest] else []
        hint = "; call velocities v" if quantities == {"q", "dq"} else ""
        form = spelled(nearest, dofs if numbered else None)
        raise ObservationError(f"it {' and '.join(wrong)} for the nearest form {form}{hint}; give {forms_words(n)}")
    return Layout(columns[nearest], LABEL in names and "t" in nearest)


def columns_of(form: Sequence[str], dofs: int | None) -> dict[str, list[str]]:
    """The columns of each quantity of a form; they are not numbered if `dofs` is None."""
    return {
        quantity: [quantity] if dofs is None or quantity == "t" else [f"{quantity}{i + 1}" for i in range(dofs)]
        for quantity in form
    }


def flat(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """The columns of all quantities, one after the other."""
    return [name for names in columns.values() for name in names]


def _superfluous(names: Iterable[str], columns: Iterable[str]) -> list[str]:
    """What does not belong to a form. Derivatives need no time, and no orbit that they were observed on."""
    allowed = {*columns, "t", LABEL}
    return [name for name in names if name not in allowed]


def check_dimension(dofs: int, n: int) -> None:
    """**Raises:** [`ObservationError`][] where a file has another number of degrees of freedom than the model."""
    if dofs != n:
        raise ObservationError(
            f"the file has n={dofs} degrees of freedom, the model n={n}; "
            "give observations of a system of the model's family"
        )


def forms_words(n: int) -> str:
    """All forms that a file may have for n degrees of freedom, in words for an error message."""
    return " or ".join(spelled(form, None if n == 1 else n) for form in FORMS)


def spelled(form: Sequence[str], dofs: int | None) -> str:
    """A form as a header would have it, such as `t,q,p`; three coordinates or more become `q1..q3`."""
    names = columns_of(form, dofs).values()
    return ",".join(",".join(columns) if len(columns) < 3 else f"{columns[0]}..{columns[-1]}" for columns in names)
