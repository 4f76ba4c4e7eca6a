"""Whether a training earns its compilation back: a rule on the configuration, so that no clock decides."""

from omegaconf import DictConfig

# Rough figures of two CPU cores; only their ratio matters.
_FLOP_PER_SECOND = 4e10  # of a step that is not compiled; compiled it takes about two thirds of the time
_SECONDS_PER_PASS = 4.0  # to compile one pass through the network and back
_TIMES_LONGER = 3.0


def is_earned(config: DictConfig) -> bool:
    """True where training without compilation would take several times as long as compiling.

    **Arguments:** `config`: of a run with an inner loop, `config.algo.compile` included.
    """
    if config.algo.backend != "vectorized":
        return False
    width, depth, passes = config.model.width, config.model.depth, config.algo.inner_steps + 1
    points = (config.data.train_shots + config.data.train_queries) / 2
    layers = (depth - 1) * width**2 + 2 * width
    if config.algo._target_.endswith("ANIL"):  # its inner loop is of the head's size
        flop, to_compile = 24 * points * layers, 2 * _SECONDS_PER_PASS
    else:
        flop, to_compile = 32 * points * layers * passes, _SECONDS_PER_PASS * passes
    seconds = flop * config.data.meta_batch * config.trainer.max_steps / _FLOP_PER_SECOND
    return seconds > _TIMES_LONGER * to_compile
