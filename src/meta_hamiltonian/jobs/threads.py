"""Threads that leave the cores to others while they wait."""

import os

# How often a waiting thread of GNU's OpenMP looks for the others before it sleeps, which takes some microseconds.
# Sleeping at once, as PASSIVE alone means, costs a training of small networks a third of its speed on a quiet machine.
_SPINS = "10000"


def wait_passively() -> None:
    """Makes the threads of OpenMP sleep at a barrier instead of spinning; call it before torch is first imported.

    PyTorch splits its operations over threads that meet at a barrier each time. Where other programs run on the same
    cores, the thread that the others wait for cannot run, since they burn its time: a training beside two busy programs
    fell to a three-hundredth of its speed. Processes that are started from this one inherit the setting. Variables that
    are set already stay as they are.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
