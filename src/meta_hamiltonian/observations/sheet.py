"""A table as it stands in a file, before anything is known of what its columns mean."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Shaped

Cells = list[str] | Shaped[np.ndarray, "..."]


@dataclasses.dataclass(frozen=True)
class Sheet:
    """Named columns of a file.

    - `names`: as the file writes them.
    - `units`: from a row of units below the names; empty where there is none.
    - `cells`: reads a column by its position: text, or an array.
    - `place`: says where a row stands, for errors.
    - `noun`: what bears these names, a `column` or an `array`.
    - `header`: where the names stand, for errors; empty where that goes without saying.
    - `decimal`: what separates the decimals of numbers in text.
    - `named`: whether the file names its columns; else their names are their positions, from 1 on.
    - `notes`: how the table was found, in sentences.
    """

    names: Sequence[str]
    units: Sequence[str]
    cells: Callable[[int], Cells]
    place: Callable[[int], str]
    noun: str = "column"
    header: str = ""
    decimal: str = "."
    named: bool = True
    notes: Sequence[str] = ()
