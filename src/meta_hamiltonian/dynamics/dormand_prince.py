"""Dormand and Prince's pair of Runge-Kutta formulas of orders 5 and 4.

??? cite "Reference"

    Dormand, Prince: A family of embedded Runge-Kutta formulae. Journal of Computational and Applied Mathematics
    6, 1980.
"""

STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
"""The weights of earlier stages in each stage after the first; the last row is the step itself."""

TIMES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
"""The instant of each stage, as a part of the step."""

ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
"""The weights of all stages in the difference of the two formulas."""
