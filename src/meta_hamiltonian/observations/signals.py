"""The measured inputs of trajectories as functions of time."""

from collections.abc import Sequence

import torch

from meta_hamiltonian.dynamics import Signal
from meta_hamiltonian.observations.forms import ObservationError, Trajectory


def signals_of(observations: Sequence[Trajectory]) -> tuple[Signal, ...]:
    """The inputs of each trajectory; empty without any.

    **Raises:** [`ObservationError`][] if only some of them have inputs, or not the same number.
    """
    counts = {0 if one.inputs is None else one.inputs.u.shape[1] for one in observations}
    if len(counts) > 1:
        raise ObservationError("some trajectories have measured inputs and others have none, or another number of them")
    inputs = [one.inputs for one in observations if one.inputs is not None]
    return tuple(Signal(torch.from_numpy(one.t), torch.from_numpy(one.u)) for one in inputs)
