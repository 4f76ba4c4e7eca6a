"""Functions of a state as a list of operations on numbers, in plain values that any language can run."""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from meta_hamiltonian.inference.tape import OF_STATE, OF_SYSTEM, Operation, Tape


def program(
    functions: Mapping[str, Callable[..., Tensor]],
    state: Float[Tensor, " numbers"],
    own: Float[Tensor, " own"],
) -> dict[str, Any]:
    """The functions of a state and of a system's own numbers, as plain values.

    **Arguments:**

    - `functions`: by name; each takes `state` and `own`, vectors in float64.
    - `state`, `own`: any for which all is finite. Which operations there are must not depend on them.

    **Raises:** [`TapeError`][] for an operation that is not known.
    """
    tape = Tape()
    with torch.no_grad():
        tape.variable(state, OF_STATE)
        tape.variable(own, OF_SYSTEM)
        places = {}
        for name, function in functions.items():
            with tape:
                result = function(state, own)
            places[name] = tape.places(result)
    needed = {name: _needed(tape.operations, out) for name, out in places.items()}
    kept = sorted({i for some in needed.values() for i in some})
    used = [place for i in kept for place in (tape.operations[i].read, _written(tape.operations[i]))]
    fixed = [tape.places(state), tape.places(own)]
    memory = np.concatenate([*fixed, *(np.unique(np.concatenate([*used, *places.values()])),)])
    memory = np.array(list(dict.fromkeys(memory.tolist())))
    # Constants come after what is given, and then what is computed, each operation's numbers side by side.
    computed = np.zeros(len(tape.values), dtype=bool)
    for i in kept:
        computed[_written(tape.operations[i])] = True
    given = np.concatenate(fixed)
    constants = np.array([place for place in memory if not computed[place] and place not in set(given.tolist())], int)
    order = np.concatenate([given, constants, np.flatnonzero(computed)])
    new = np.full(len(tape.values), -1)
    new[order] = np.arange(len(order))
    level = np.array(tape.levels)

    def plain(which: Sequence[int]) -> list[Any]:
        found = [tape.operations[i] for i in which]
        return [[op.name, int(new[op.out]), *(_table(new[table]) for table in op.tables)] for op in found]

    setup = [i for i in kept if level[tape.operations[i].out] == OF_SYSTEM]
    return {
        "size": len(order),
        "state": len(state),
        "own": len(own),
        "constants": numbers([tape.values[place] for place in constants]),
        "setup": plain(setup),
        **{name: {"steps": plain([i for i in some if i not in setup]), "out": new[places[name]].tolist()}
           for name, some in needed.items()},
    }  # fmt: skip


def numbers(values: Any) -> str:
    """Numbers in float64, as text."""
    return base64.b64encode(np.asarray(values, dtype="<f8").tobytes()).decode()


def _written(operation: Operation) -> Int[np.ndarray, " places"]:
    return np.arange(operation.out, operation.out + operation.count)


def _needed(operations: Sequence[Operation], out: Int[np.ndarray, " places"]) -> list[int]:
    """The operations on which the numbers at these places depend, in order."""
    wanted, found = set(out.tolist()), []
    for i in range(len(operations) - 1, -1, -1):
        if not wanted.isdisjoint(range(operations[i].out, operations[i].out + operations[i].count)):
            found.append(i)
            wanted.update(operations[i].read.tolist())
    return found[::-1]


def _table(places: Int[np.ndarray, "..."]) -> Any:
    """Places as `[first, shape, strides]` where they are regular, else one by one with the shape."""
    strides = [
        int(np.take(places, 1, axis=d).flat[0] - places.flat[0]) if n > 1 else 0 for d, n in enumerate(places.shape)
    ]
    regular = np.full(places.shape, places.flat[0])
    for d, stride in enumerate(strides):
        regular = regular + stride * np.arange(places.shape[d]).reshape(
            [-1 if e == d else 1 for e in range(places.ndim)]
        )
    if (regular == places).all():
        return {"first": int(places.flat[0]), "shape": list(places.shape), "strides": strides}
    return {"places": places.ravel().tolist(), "shape": list(places.shape)}
