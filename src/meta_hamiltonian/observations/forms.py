"""What a user's observations are once they are read, and the words for what is wrong with them."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float


class ObservationError(ValueError):
    """Observations that cannot be used. The message is one line, whatever a file or its name holds."""

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


@dataclasses.dataclass(frozen=True)
class Derivatives:
    """States (q1..qn, p1..pn) and their time derivatives, in float64."""

    x: Float[np.ndarray, "points state"]
    dxdt: Float[np.ndarray, "points state"]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Measured inputs u, such as a torque, at times of their own; between them they are interpolated linearly.

    They may go on after the last observed state: a forecast needs them.
    """

    t: Float[np.ndarray, " instants"]
    u: Float[np.ndarray, "instants inputs"]


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """One orbit at increasing times, in float64. Instants at which nothing is known of the state are left out.

    - `p`, `v`: momenta or velocities, one of them at most.
    - `name`: its value in the column `trajectory`, or its file; empty without one.
    - `inputs`: the measured inputs that drive the orbit, if any.
    - `integrated`: q was not observed but is the integral of v, so that it is known up to a constant.
    """

    t: Float[np.ndarray, " instants"]
    q: Float[np.ndarray, "instants n"]
    p: Float[np.ndarray, "instants n"] | None
    v: Float[np.ndarray, "instants n"] | None
    name: str
    inputs: Inputs | None = None
    integrated: bool = False


@contextlib.contextmanager
def at_place(place: str) -> Iterator[None]:
    """Errors inside begin with the place."""
    try:
        yield
    except ObservationError as error:
        raise ObservationError(f"{place}: {error}") from error


def shown(text: str) -> str:
    """A text in quotes for an error message, cut to about 40 characters."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def named(noun: str, names: Iterable[str], most: int = 6) -> str:
    """A noun and its names, such as `columns q, p`; those beyond `most` are only counted."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{noun}{'' if len(names) == 1 else 's'} {', '.join(names[:most])}{more}"


def counted(number: int, noun: str) -> str:
    """A number and its noun, such as `1 row` or `3 rows`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
