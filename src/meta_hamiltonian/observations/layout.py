"""The forms that observations may have, in our own names of quantities."""

from collections.abc import Iterable, Mapping, Sequence

from meta_hamiltonian.observations.forms import ObservationError, named

FORMS = {("q", "p", "dq", "dp"): 1, ("t", "q", "p"): 3, ("t", "q", "v"): 3, ("t", "q"): 4, ("t", "v"): 4}
"""The quantities that a file may hold, and how many rows it (for trajectories: each of them) needs at least."""

LABEL = "trajectory"
"""The column that tells trajectories apart."""

_HINT = "or say which column is which, such as --columns t=NAME,q=NAME"


def find_form(names: Sequence[str], n: int, noun: str) -> dict[str, list[str]]:
    """The form that the names are of: its quantities, and the names of each.

    **Arguments:**

    - `names`: such as `t`, `q` or `q1`.
    - `n`: degrees of freedom of the model, in which the forms are spelled.
    - `noun`: what bears these names, a `column` or an `array`.
    """
    coordinates = [name for name in names if name not in ("t", LABEL)]
    numbered = {name: int(end) for name in coordinates if (end := name.lstrip("qpvd"))}
    plain = [name for name in coordinates if name not in numbered]
    if plain and numbered:
        raise ObservationError(f"{noun}s {plain[0]} and {next(iter(numbered))} do not fit; number all, or none")
    last = max(numbered, key=lambda name: numbered[name], default=None)
    dofs = 1 if last is None else numbered[last]
    if last is not None and dofs > len(names):
        raise ObservationError(f"{noun} {last} skips numbers; number from 1 on")

    present = set(names)
    columns = {form: columns_of(form, dofs if numbered else None) for form in FORMS}
    missing = {form: [name for name in flat(columns[form]) if name not in present] for form in FORMS}
    extra = {form: _superfluous(names, flat(columns[form])) for form in FORMS}
    nearest = min(FORMS, key=lambda form: len(missing[form]) + 2 * len(extra[form]))
    if missing[nearest] or extra[nearest]:
        if {name.rstrip("0123456789") for name in coordinates} == {"q", "p", "v"}:
            raise ObservationError(
                f"p and v together are no form; leave one of them out: give {forms_words(n)}, "
                "or say what to take: --columns t=NAME,q=NAME,v=NAME"
            )
        wrong = [f"lacks {named(noun, missing[nearest])}"] if missing[nearest] else []
        wrong += [f"has superfluous {named(noun, extra[nearest])}"] if extra[nearest] else []
        form = spelled(nearest, dofs if numbered else None)
        raise ObservationError(f"it {' and '.join(wrong)} for the nearest form {form}; {missing_words(n)}")
    return columns[nearest]


def columns_of(form: Sequence[str], dofs: int | None) -> dict[str, list[str]]:
    """The names of each quantity of a form; they are not numbered if `dofs` is None."""
    return {
        quantity: [quantity] if dofs is None or quantity == "t" else [f"{quantity}{i + 1}" for i in range(dofs)]
        for quantity in form
    }


def flat(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """The names of all quantities, one after the other."""
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


def missing_words(n: int) -> str:
    """What to give or to type where columns are not found."""
    return f"give {forms_words(n)}, {_HINT}"


def spelled(form: Sequence[str], dofs: int | None) -> str:
    """A form as a header would have it, such as `t,q,p`; three coordinates or more become `q1..q3`."""
    names = columns_of(form, dofs).values()
    return ",".join(",".join(columns) if len(columns) < 3 else f"{columns[0]}..{columns[-1]}" for columns in names)
