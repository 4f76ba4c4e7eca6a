"""What the names of columns mean, as instruments and people write them."""

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Iterator

from meta_hamiltonian.dynamics.space import Axes, Space

_ANGLES = (
    "theta", "angle", "phi", "alpha", "winkel", "angularposition", "angulardisplacement", "pendulumangle",
    "drehwinkel", "auslenkwinkel",
)  # fmt: skip
_LENGTHS = ("x", "position", "pos", "displacement", "auslenkung", "xposition", "positionx", "xpos", "posx")
_POSITIONS = {"q": "", **dict.fromkeys(_ANGLES, "angle"), **dict.fromkeys(_LENGTHS, "length")}
_WORDS = {
    "t": (
        "t", "time", "zeit", "timestamp", "seconds", "secs", "elapsed", "elapsedtime", "timeelapsed", "datetime",
        "uhrzeit", "zeitstempel", "elapsedseconds",
    ),
    "v": (
        "v", "omega", "gyro", "gyroscope", "velocity", "vel", "speed", "angularvelocity", "angularspeed",
        "angularrate", "winkelgeschwindigkeit", "geschwindigkeit",
    ),
    "p": ("p", "momentum", "impuls", "angularmomentum"),
    "dp": ("dp", "dpdt", "dp/dt", "pdot", "dmomentum", "dmomentum/dt", "momentumdot"),
    "u": ("u", "torque", "input", "drive", "voltage", "force"),
    "y": ("y", "yposition", "positiony", "ypos", "posy"),
    "z": ("z", "zposition", "positionz", "zpos", "posz"),
    "trajectory": ("trajectory",),
    "frame": ("frame", "frames", "framenumber", "frameno", "bild", "bildnummer"),
}  # fmt: skip
# The velocity and the momentum of the only angle among several coordinates, and those of the only one that is none.
ANGULAR = {"rate": ("omega", "angularvelocity", "angularspeed", "angularrate"), "p": ("angularmomentum",)}
LINEAR = {"rate": ("v", "velocity", "vel", "speed"), "p": ("p", "momentum")}
_NAMES_WITH_UNITS = {"millis": "ms", "milliseconds": "ms", "elapsedms": "ms", "micros": "µs", "microseconds": "µs"}
_GYROSCOPES = ("gyroscope", "gyro", "gyr", "angularvelocity", "angularrate", "omega", "w", "rotationrate")
# `ln prey`, `log(prey)`, `ln_prey`.
_LOGARITHM = re.compile(r"(?:ln|log)(?:[\s_]+|(?=[(\[{]))[(\[{]?\s*(.+?)\s*[)\]}]?", re.IGNORECASE)
_ACCELERATION = re.compile(r"(?:linear)?acc|a[xyz]$|beschleunigung")

_LETTERS = str.maketrans(
    {
        **dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True)),
        **dict.fromkeys("θϑ", "theta"),
        **dict.fromkeys("φϕ", "phi"),
        "ω": "omega",
        "α": "alpha",
        "τ": "torque",
        "\u0307": "dot",
        "’": "'",
    }
)
_DIGITS = re.compile(r"[0-9]+")
_SUFFIX_UNITS = (
    "deg_per_s|deg_s|deg/s|degps|dps|rad_per_s|rad_s|rad/s|radps|m_per_s|m_s|m/s|cm_s|cm/s|mm_s|mm/s|rpm|"
    "degrees|degree|deg|radians|radian|rad|mrad|seconds|second|secs|sec|s|milliseconds|millis|ms|us|µs|minutes|min|"
    "mm|cm|m|px|pixels|°"
)
_SPLITS = (
    re.compile(r"(.*?)[\s_]*[(\[{<](.*)[)\]}>]"),
    re.compile(r"(.+?)\s+in\s+(\S.*)"),
    re.compile(r"(.+?),\s*(\S.*)"),
    re.compile(rf"(.+?)[_\s]+({_SUFFIX_UNITS})", re.IGNORECASE),
    re.compile(r"([a-z]+)(Deg|Rad|Ms|Sec|Seconds)"),
)
_SUFFIX_WORDS = {
    **{f"{unit}{per}": f"{unit}/s" for unit in ("deg", "rad", "m", "cm", "mm") for per in ("_per_s", "_s")},
    **{"dps": "deg/s", "degps": "deg/s", "radps": "rad/s", "millis": "ms", "us": "µs"},
}

NUMBERED = re.compile(r"[xyz]([1-9][0-9]{0,5})")
"""The position of one of several bodies."""


@dataclasses.dataclass(frozen=True)
class Meaning:
    """What a column is by its name.

    - `quantity`: `t`, `q`, `p`, `v`, `dp`, `u`, `trajectory`; `rate` for what is v or dq, `y` and `z` for positions
        beside x, `gyro` for one axis of three, `frame` for a count.
    - `index`: the number of the coordinate, from 1 on; None without one.
    - `kind`: `angle` or `length` for a position, `logarithm` for q or p too; empty where the name leaves it open.
    - `unit`: the unit that the name gives.
    - `axis`: `x`, `y` or `z`.
    """

    quantity: str
    index: int | None = None
    kind: str = ""
    unit: str = ""
    axis: str = ""


class Vocabulary:
    """The names that columns of observations of a family may have, its own names of the coordinates among them."""

    def __init__(self, domain: Space) -> None:
        self._found: dict[str, Meaning | None] = {}
        self._words: dict[str, Meaning] = {}
        for quantity, words in _WORDS.items():
            self._add(words, Meaning(quantity, axis=quantity if quantity in "yz" else ""))
        for word, unit in _NAMES_WITH_UNITS.items():
            self._add([word], Meaning("t", unit=unit))
        for word, kind in _POSITIONS.items():
            axis = "x" if word in ("x", "xposition", "positionx", "xpos", "posx") else ""
            self._add([word], Meaning("q", kind=kind, axis=axis))
            self._add([*rates(word), f"v{word}"], Meaning("rate", axis=axis))
            self._add(momenta(word), Meaning("p", axis=axis))
        for axis in "xyz":
            self._add([f"v{axis}", f"{axis}velocity", f"velocity{axis}"], Meaning("rate", axis=axis))
            self._add([f"p{axis}"], Meaning("p", axis=axis))
            self._add([f"{word}{axis}" for word in _GYROSCOPES], Meaning("gyro", axis=axis))
            if axis != "x":
                self._add(rates(axis), Meaning("rate", axis=axis))
        self._own: dict[str, Meaning] = {}
        n = domain.degrees_of_freedom
        for i, coordinate in enumerate(domain.coordinates):
            word, index = key(coordinate.name), None if n == 1 else i % n + 1
            self._own[word] = Meaning("q" if i < n else "p", index)
            for rate in rates(word):
                self._own.setdefault(rate, Meaning("rate" if i < n else "dp", index))
            if i < n:
                self._own.setdefault(f"v{word}", Meaning("rate", index))
                for momentum in momenta(word):
                    self._own.setdefault(momentum, Meaning("p", index))
        numbers = [match[1] if (match := NUMBERED.fullmatch(key(c.name))) else "" for c in domain.coordinates[:n]]
        for i, number in enumerate(numbers):
            if number and numbers.count(number) == 1:  # v2 belongs to x2, if there is no y2
                for quantity in ("v", "p"):
                    self._own.setdefault(f"{quantity}{number}", Meaning(quantity, None if n == 1 else i + 1))
        angles = [i for i, coordinate in enumerate(domain.coordinates[:n]) if coordinate.kind == "angle"]
        others = [i for i in range(n) if i not in angles]
        for positions, words in ((angles, ANGULAR), (others, LINEAR)):
            if len(positions) == 1 < n:
                for quantity, names in words.items():
                    self._own |= dict.fromkeys(names, Meaning(quantity, positions[0] + 1))

    def _add(self, words: list[str] | tuple[str, ...], meaning: Meaning) -> None:
        self._words |= dict.fromkeys(words, meaning)

    def known(self, name: str) -> bool:
        """Whether it is the name of something."""
        return self.meaning(name) is not None

    def meaning(self, name: str) -> Meaning | None:
        """What a column of this name is; None where that cannot be told."""
        if name not in self._found:
            self._found[name] = self._read(name)
        return self._found[name]

    def _read(self, name: str) -> Meaning | None:
        if (positive := of_logarithm(name)) is not None:
            found = self._word(key(positive))
            return dataclasses.replace(found, kind="logarithm") if found and found.quantity in ("q", "p") else None
        for base, unit in readings(name):
            if (found := self._word(key(base))) is not None:
                unit = _SUFFIX_WORDS.get(unit.lower(), unit)
                return dataclasses.replace(found, unit=unit or found.unit)
        return None

    def _word(self, key: str) -> Meaning | None:
        if key in self._own:
            return self._own[key]
        if key in self._words:
            return self._words[key]
        digits = _DIGITS.findall(key)
        if len(digits) != 1 or digits[0].startswith("0") or len(digits[0]) > 6:
            return None
        found = self._words.get(key.replace(digits[0], "", 1))
        if found is None or found.axis or found.unit or found.quantity in ("t", "trajectory", "frame", "gyro"):
            return None
        return dataclasses.replace(found, index=int(digits[0]))


@functools.lru_cache(maxsize=8)
def vocabulary_of(domain: Space) -> Vocabulary:
    """The names that columns of observations of a family may have."""
    return Vocabulary(domain)


def usual_meaning(name: str) -> Meaning | None:
    """What a column of this name is where no family is known yet; None where that cannot be told."""
    return vocabulary_of(Axes.plain(2)).meaning(name)


def of_logarithm(name: str) -> str | None:
    """What a column is the logarithm of, by its name."""
    match = _LOGARITHM.fullmatch(name.strip())
    return match[1] if match else None


def is_acceleration(name: str) -> bool:
    """Whether a column holds accelerations, by its name."""
    return _ACCELERATION.match(key(name)) is not None


def same_name(one: str, other: str) -> bool:
    """Whether two names differ in their case and blanks alone."""
    return key(one) == key(other)


def readings(name: str) -> Iterator[tuple[str, str]]:
    """The ways to take a name apart into what is measured and its unit."""
    name = name.strip()
    yield name, ""
    for pattern in _SPLITS:
        if match := pattern.fullmatch(name):
            yield match[1], match[2].strip()
    for i, letter in enumerate(name):
        if letter == "/" and 0 < i < len(name) - 1:
            yield name[:i], name[i + 1 :].strip().strip("()[]")


def key(name: str) -> str:
    """A name without what may be written in several ways: case, blanks, underscores, Greek letters."""
    text = unicodedata.normalize("NFD", name.strip()).lower().translate(_LETTERS)
    return re.sub(r"\s*/\s*", "/", re.sub(r"(?<=[^\W_])[\s_.\-]+(?=[^\W_])", "", text))


def momenta(word: str) -> list[str]:
    """The ways to name the momentum of a coordinate."""
    return [f"p{word}", f"{word}momentum"]


def rates(word: str) -> list[str]:
    """The ways to name the velocity of a coordinate beside `vtheta`."""
    return [f"d{word}", f"{word}dot", f"d{word}/dt", f"d{word}dt", f"{word}velocity", f"d({word})/dt"]
