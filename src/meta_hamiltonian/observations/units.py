"""Units of measurement, which pint knows."""

import functools
import math
import re
from typing import TYPE_CHECKING, Any

from meta_hamiltonian.observations.forms import ObservationError, shown

if TYPE_CHECKING:
    import pint

NONE = ("", "1", "-", "none", "dimensionless")
"""What stands where a quantity has no unit."""

_PIXELS = ("px", "pixel", "pixels", "pix")
_SAME = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "sek"), "s"),
    **dict.fromkeys(("rad", "radian", "radians"), "rad"),
    **dict.fromkeys(("rad/s", "rad/sec", "rad s^-1", "rad·s^-1", "rad*s^-1"), "rad/s"),
    **dict.fromkeys(("m", "meter", "metre", "meters", "metres"), "m"),
    **dict.fromkeys(("m/s", "m s^-1", "m·s^-1"), "m/s"),
}
_POWERS = str.maketrans("⁻−⁰¹²³⁴", "--01234")
_FACTOR = re.compile(
    r"([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)(?:/([0-9]*\.?[0-9]+))?\s*\*?\s*([^\W\d].*|°.*)", re.IGNORECASE
)
_WORD = re.compile(r"[^\W\d_]+|[°º]")
# Words with small powers, multiplied and divided: no arithmetic that could take forever.
_PRODUCT = re.compile(
    r"\(?(?:1 ?/)? ?\(?X(?: ?[*/·⋅ ] ?\(?X\)?)*\)?".replace("X", r"(?:[^\W\d]+|[°º%])(?:(?:\*\*|\^)?-?[1-4])?")
)
_ALIASES = {
    **dict.fromkeys(("rev", "revs", "revolution", "revolutions", "turns", "umdrehungen"), "turn"),
    **dict.fromkeys(("grad", "grads", "gradian", "gradians", "gon"), "grade"),
    **dict.fromkeys(("°", "º", "degs", "grad°"), "degree"),
    **dict.fromkeys(("dps", "degps"), "(degree/second)"),
    "rps": "(turn/second)",
    "U": "turn",
    "sek": "second",
    "Nm": "(newton*meter)",
    "mNm": "(millinewton*meter)",
}
# What leaves open whether it counts turns or radians.
_TURNS_OR_RADIANS = re.compile(r"(?:k?Hz|1/min|min\^?-1|cps)", re.IGNORECASE)
_DIMENSIONS = {"t": "a time", "angle": "an angle", "length": "a length"}


def conversion(text: str, target: str, quantity: str, kind: str = "") -> tuple[float, str]:
    """By what a quantity has to be multiplied, and the unit that it has then.

    **Arguments:**

    - `text`: its unit; a number may stand before it, as in `1/30 s`.
    - `target`: the unit wanted; empty for rad, rad/s or else the SI unit.
    - `quantity`: `t`, `q1` and so on.
    - `kind`: what it must be where the target is empty: `angle`, `length`, or empty for anything.

    **Raises:** [`ObservationError`][], where the unit is not known or of another dimension.
    """
    text = re.sub(r"\s+", " ", text.translate(_POWERS)).strip()
    option = f"say its unit: --units {quantity}=UNIT"
    if text.lower() in NONE:
        return 1.0, target
    plain = _SAME.get(text, _SAME.get(text.lower(), text))
    if plain == target or (not target and plain in ("rad", "m", "rad/s", "m/s") and _fits(plain, quantity, kind)):
        return 1.0, plain
    if text.lower() in _PIXELS and quantity[0] in "qxy":
        if target:
            raise ObservationError(
                f"{quantity} is in pixels, which are no {target}; {option}, "
                f"such as {quantity}=0.5mm for pixels of 0.5 mm"
            )
        return 1.0, "px"
    if text in ("Grad", "GRAD"):
        raise ObservationError(
            f"the unit {shown(text)} of {quantity} may be degrees or gradians; "
            f"type --units {quantity}=deg or --units {quantity}=gon"
        )
    if quantity[0] in "vd" and _TURNS_OR_RADIANS.fullmatch(text):
        raise ObservationError(
            f"the unit {shown(text)} of {quantity} may count turns or radians; "
            f"type --units {quantity}=rpm, {quantity}=rev/s or {quantity}=rad/s"
        )
    factor, unit = _parsed(text, quantity, option)
    wanted = _parsed(target, quantity, option)[1] if target else _base(unit)
    if not _alike(unit, wanted) or (not target and not _fits(f"{wanted:~P}", quantity, kind)):
        expected = target or _DIMENSIONS.get(kind or quantity, "another quantity")
        raise ObservationError(f"the unit {shown(text)} of {quantity} is none of {expected}; {option}")
    scale = factor * float(_quantity(1.0, unit).to(wanted).magnitude)
    nearest = float(f"{scale:.6g}")  # 1.0000000000000002 is 1
    exact = nearest if math.isclose(nearest, scale, rel_tol=1e-15) else scale
    return exact, target or f"{wanted:~P}"


def _fits(unit: str, quantity: str, kind: str) -> bool:
    """Whether a quantity of this kind may have a base unit."""
    allowed = {"t": ("s",), "q": ("rad", "m", "px"), "x": ("m",), "y": ("m",), "v": ("rad/s", "m/s", "1/s")}
    if quantity[:2] == "dq":
        quantity = "v"
    if quantity[:1] == "q" and kind == "angle":
        return unit == "rad"
    return quantity[:1] not in allowed or quantity[:2] == "dp" or unit in allowed[quantity[:1]]


@functools.cache
def _registry() -> "pint.UnitRegistry":
    import pint

    return pint.UnitRegistry(autoconvert_offset_to_baseunit=False)


def _quantity(number: float, unit: "pint.Unit") -> Any:
    return _registry().Quantity(number, unit)


def _parsed(text: str, quantity: str, option: str) -> "tuple[float, pint.Unit]":
    """A number before the unit, and the unit. No expression is evaluated beyond products of units."""
    factor = 1.0
    if match := _FACTOR.fullmatch(text):
        factor = float(match[1]) / float(match[2] or 1)
        text = match[3]
    unknown = ObservationError(
        f"the unit {shown(text)} of {quantity} is not known; {option}, such as s, ms, deg, rad, m, cm or deg/s"
    )
    if len(text) > 40 or not _PRODUCT.fullmatch(text) or not 0 < factor < math.inf:
        raise unknown
    for way in (text, text.lower()):
        try:
            unit: Any = _registry().parse_units(_spelled(way))
            if _quantity(0.0, unit).to_base_units().magnitude != 0:  # such as °C, which no factor converts
                continue
            return factor, unit
        except Exception:  # noqa: S112 (pint raises nearly anything over text that is no unit)
            continue
    raise unknown


def _spelled(text: str) -> str:
    """A unit as pint reads it: `rad s-1` becomes `radian*s**-1`."""
    text = _WORD.sub(lambda match: _ALIASES.get(match[0], match[0]), text)
    text = re.sub(r"(?<=[^\W\d_])\^?(-?[0-9])", r"**\1", text)
    return re.sub(r"\bper\b", "/", text.replace("·", "*").replace("⋅", "*").replace("_", " "))


def _base(unit: "pint.Unit") -> "pint.Unit":
    """The unit of its dimension that is taken without another wish."""
    return _quantity(1.0, unit).to_base_units().units


def _angular(unit: "pint.Unit") -> bool:
    return "radian" in str(_base(unit))


def _alike(one: "pint.Unit", other: "pint.Unit") -> bool:
    """Whether one converts to the other: 1/s to rad/s, but percent not to rad."""
    if one.dimensionality != other.dimensionality:
        return False
    return _angular(one) == _angular(other) or (str(one.dimensionality) == "1 / [time]" and not _angular(one))
