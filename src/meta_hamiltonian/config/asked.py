"""What may be asked of a fit, by name. Nothing here imports PyTorch, so that a refusal comes at once."""

AUTO, NONE = "auto", "none"
FITS = (AUTO, "derivatives", "orbit")
"""The ways to fit trajectories."""
FRICTIONS = ("viscous", "quadratic", "dry")
"""The kinds of friction."""


def check_fit(text: str) -> None:
    """**Raises:** `ValueError` for none of [`FITS`][]."""
    if text not in FITS:
        raise ValueError(f"fit={text!r} is not known; choose one of {', '.join(FITS)}")


def parse_friction(text: str) -> tuple[str, ...] | None:
    """`none`, kinds joined by `+` such as `viscous+dry`, or `auto`, which is None.

    **Raises:** `ValueError` for anything else.
    """
    if text == AUTO:
        return None
    kinds = () if text == NONE else tuple(text.split("+"))
    if len(set(kinds)) < len(kinds) or not set(kinds) <= set(FRICTIONS):
        allowed = ", ".join([AUTO, NONE, *FRICTIONS])
        raise ValueError(f"friction={text!r} is not known; choose one of {allowed}, or join kinds as in viscous+dry")
    return tuple(kind for kind in FRICTIONS if kind in kinds)
