"""Threads that leave the cores to others while they wait."""

import os

# How often a thread of GNU's OpenMP looks whether the others have come, before it sleeps: some microseconds. Sleeping
# at once, which PASSIVE means by itself, costs a training of small networks a third of its speed on a quiet machine.
_SPINS = "10000"


def wait_passively() -> None:
    """Makes the threads of OpenMP sleep at a barrier instead of spinning; before torch is imported for the first time.

    PyTorch splits its operations over threads that meet at a barrier each time. Where other programs run on the same
    cores, the thread that is waited for does not run, and those that wait for it burn its time: a training beside two
    busy programs fell to a three-hundredth of its speed. Processes that are started from this one inherit it, and
    whoever has set these variables is left alone.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
