"""How much smoothed rates tell: their errors are not independent, and are not all the errors that there are."""

EXPLAINED = 3.0
"""What a law leaves is explained where it is at most so many times the variance that the errors of the rates alone
would leave: the errors of the states add to it."""

INDEPENDENT = 40
"""Neighbours on smoothed curves say the same: at most so many points of a member count."""

MISSED = 1e-3
"""Curves through samples without noise still miss this part of their derivatives."""

MOST_POINTS = 1000
"""So many points of a member tell its mass matrix."""
