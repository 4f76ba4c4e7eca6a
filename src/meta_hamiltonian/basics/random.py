"""Random numbers that are a pure function of where they are used, never of what was drawn before."""

import zlib

import numpy as np
from numpy.random import Generator, Philox, SeedSequence

# Points are drawn in chunks of this many per task, so that the first K points of a task are the
# same whatever K is, and a chunk of many neighbouring tasks is one call.
_CHUNK = 64


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


def uniform(seed: int, labels: tuple[str | int, ...], tasks: range, shape: tuple[int, int]) -> np.ndarray:
    """Uniform numbers in [0, 1) for consecutive tasks, drawn for all of them together.

    The numbers of task i depend on `(seed, labels, i)` only, and a shorter `shape[0]` gives a
    prefix of a longer one.

    **Arguments:**

    - `seed`, `labels`: as for [`generator`][].
    - `tasks`: consecutive task indices.
    - `shape`: `(points, dim)`, what each task gets.

    **Returns:**

    An array of shape `(len(tasks), points, dim)`.
    """
    points, dim = shape
    block = _CHUNK * dim  # a multiple of 4, the numbers that Philox makes a counter step
    chunks = []
    for chunk in range(max(1, -(-points // _CHUNK))):
        rng = generator(seed, *labels, chunk)
        bits = rng.bit_generator
        assert isinstance(bits, Philox)
        bits.advance(tasks.start * block // 4)
        chunks.append(rng.random((len(tasks), _CHUNK, dim)))
    return np.concatenate(chunks, axis=1)[:, :points]
