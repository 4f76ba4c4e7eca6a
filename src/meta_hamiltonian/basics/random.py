"""Random numbers that are a pure function of where they are used, never of what was drawn before."""

import zlib

import torch
from jaxtyping import Float
from numpy.random import Generator, Philox, SeedSequence
from torch import Tensor

from meta_hamiltonian.basics.philox import philox

# Points are drawn in chunks of this many per task, so that the first K points of a task are the
# same whatever K is, and a chunk of many neighbouring tasks is one call.
_CHUNK = 64
# On a CPU, NumPy draws so many numbers in a row in the time that `philox` takes for one of its choice.
_IN_A_ROW = 15


def generator(seed: int, *labels: str | int) -> Generator:
    """A generator for one purpose.

    **Arguments:**

    - `seed`: the user's seed, at least 0.
    - `labels`: what the numbers are for, e.g. `"train", "support"`; different labels give
        independent streams.

    **Returns:**

    A counter-based generator (Philox), so that any part of its stream is reached at once.

    ??? cite "Reference"

        Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011.
    """
    words = [zlib.crc32(x.encode()) if isinstance(x, str) else x for x in labels]
    return Generator(Philox(SeedSequence([seed, *words])))


def uniform(
    seed: int,
    labels: tuple[str | int, ...],
    tasks: range,
    shape: tuple[int, int],
    device: torch.device | str = "cpu",
) -> Float[Tensor, "tasks points dim"]:
    """Uniform numbers in [0, 1) for consecutive tasks, drawn for all of them together, in float64.

    The numbers of task i depend on `(seed, labels, i)` only, and a shorter `shape[0]` gives a
    prefix of a longer one.

    **Arguments:**

    - `seed`, `labels`: as for [`generator`][].
    - `tasks`: consecutive task indices.
    - `shape`: `(points, dim)`, what each task gets.
    - `device`: where they are drawn; the numbers are the same on all devices, bit for bit.
    """
    points, dim = shape
    on_cpu = torch.device(device).type == "cpu"
    blocks = _CHUNK * dim // 4  # a step of Philox's counter makes four numbers
    chunks = []
    for chunk in range(max(1, -(-points // _CHUNK))):
        rng = generator(seed, *labels, chunk)
        bit_generator = rng.bit_generator
        assert isinstance(bit_generator, Philox)
        needed = -(-min(_CHUNK, points - chunk * _CHUNK) * dim // 4)
        if on_cpu and needed * _IN_A_ROW > blocks:
            bit_generator.advance(tasks.start * blocks)
            chunks.append(torch.from_numpy(rng.random((len(tasks), _CHUNK, dim))))
            continue
        key = [int(word) for word in bit_generator.state["state"]["key"]]
        first = torch.arange(tasks.start, tasks.stop, device=device)[:, None] * blocks
        counters = first + torch.arange(1, 1 + needed, device=device)  # NumPy counts before it draws
        bits = philox(counters.flatten(), key).view(len(tasks), 4 * needed)
        numbers = (bits >> 11 & 2**53 - 1).double() * 2.0**-53
        whole = 4 * needed // dim  # points
        chunks.append(numbers[:, : whole * dim].unflatten(1, (whole, dim)))
    return torch.cat(chunks, dim=1)[:, :points]
