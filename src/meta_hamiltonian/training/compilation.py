"""Whether a training earns its compilation back: a rule on the configuration, so that no clock decides."""

from meta_hamiltonian.learners import Learner

# Rough figures of two CPU cores; only their ratio matters.
_FLOP_PER_SECOND = 4e10  # of a step that is not compiled; compiled it takes about two thirds of the time
_SECONDS_PER_PASS = 4.0  # to compile one pass through the network and back
_TIMES_LONGER = 3.0


def is_earned(learner: Learner, points: float, meta_batch: int, max_steps: int) -> bool:
    """True where training without compilation would take several times as long as compiling.

    **Arguments:**

    - `learner`: whose step may be compiled.
    - `points`: points of a task, the mean over its support and its query set.
    - `meta_batch`, `max_steps`: tasks per outer step, and how many of these.
    """
    cost = learner.step_cost
    if cost is None:
        return False
    hidden = sum(value.numel() for name, value in learner.net.named_parameters() if name.endswith("weight"))
    hidden -= learner.net.head.weight.numel()
    seconds = cost.flop * points * hidden * meta_batch * max_steps / _FLOP_PER_SECOND
    return seconds > _TIMES_LONGER * _SECONDS_PER_PASS * cost.passes
