"""The recordings that a configuration names."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from hydra.utils import instantiate
from jaxtyping import Float
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from meta_hamiltonian.basics.exceptions import ConfigError
from meta_hamiltonian.basics.registry import registered
from meta_hamiltonian.config import says
from meta_hamiltonian.episodes import Episodes
from meta_hamiltonian.episodes.recorded import RecordedDataModule, episodes_of
from meta_hamiltonian.episodes.recordings import Recordings, load_recordings
from meta_hamiltonian.evaluation.coverage import Coverage
from meta_hamiltonian.evaluation.forecasts import coverage_of, forecasts
from meta_hamiltonian.evaluation.identify import Identified, identify_recorded
from meta_hamiltonian.learners.checkpoint import Trained
from meta_hamiltonian.observations.shape import Asked

log = logging.getLogger(__name__)

# Bands are checked on what follows this part of each recording.
_OBSERVED = 0.5

# The keys that say where the recordings are and how they are read; the data module takes the other keys.
_READING = (
    "path", "member", "split", "held_out", "margin", "inertia", "columns", "units", "angles", "dofs", "skip_bad",
)  # fmt: skip


def recordings_of(config: DictConfig) -> Recordings | None:
    """The recordings that `data` names; None for a family that is simulated.

    **Raises:** [`ConfigError`][] for recordings that cannot be used, or for a family that does not go with them.
    """
    is_recorded = says(config.data, "is_recorded")
    family: Any = registered(config.system._target_)
    if is_recorded != family.domain_from_data:
        raise ConfigError("data=recorded and system=recorded go together: give system=recorded data.path=FOLDER")
    if not is_recorded:
        return None
    values: Any = OmegaConf.to_container(config.data, resolve=True)
    found = read_again(values)
    for note in found.notes:
        log.info(f"Recordings: {note}.")
    return found


def recordings_of_given(config: DictConfig, trained: Trained) -> Recordings | None:
    """The recordings to test a trained learner on: those of `data`, if it names any, else those of the training."""
    if not trained.system.domain_from_data:
        return None
    return (
        recordings_of(config) if says(config.data, "is_recorded") else read_again(trained.settings["training"]["data"])
    )


def read_again(values: Mapping[str, Any]) -> Recordings:
    """The recordings that plain values of `data` name, such as those in a checkpoint."""
    asked = Asked(values["columns"], values["units"], values["angles"], values["dofs"])
    keys = [key for key in _READING if key not in Asked._fields]
    return load_recordings(**{key: values[key] for key in keys}, asked=asked)


def data_of(config: DictConfig, recordings: Recordings, seed: int, dtype: torch.dtype) -> RecordedDataModule:
    """The data module of the configuration for these recordings."""
    own = OmegaConf.masked_copy(config.data, [key for key in config.data if key not in (*_READING, "loss")])
    return instantiate(own, _partial_=True)(recordings=recordings, seed=seed, dtype=dtype)


def members_of(recordings: Recordings, friction: Sequence[str]) -> Episodes:
    """All members, with friction of these kinds, in float64."""
    members = [*recordings.train, *recordings.val, *recordings.test]
    return episodes_of(members, False, torch.float64, friction)


def known_numbers(recordings: Recordings) -> dict[str, Float[Tensor, " members"]]:
    """The columns of `members.csv` that are numbers, known for all members and not all equal, in the order of
    [`members_of`][]."""
    members = [*recordings.train, *recordings.val, *recordings.test]
    found = {}
    for name in members[0].known:
        try:
            values = torch.tensor([float(one.known[name]) for one in members], dtype=torch.float64)
        except (KeyError, ValueError):
            continue  # text, or not known of some of them
        if values.isfinite().all() and values.std() > 0:
            found[name] = values
    return found


def bands_of_recordings(
    trained: Trained, warned: Callable[[str], None], said: Callable[[str, float], None] = lambda _what, _done: None
) -> list[Coverage]:
    """How often the later halves of the recordings of the test lie inside their bands.

    **Arguments:**

    - `warned`: is given a line about each member that cannot be predicted.
    - `said`: is told what is being done, and which part of the work is done.
    """
    recordings = read_again(trained.settings["training"]["data"])
    members = recordings.test or recordings.val or recordings.train
    learner, loss = trained.learner, trained.validation_loss
    found = coverage_of(forecasts(learner, members, _OBSERVED, recordings.inertias, loss, warned=warned, said=said))
    if not found:
        raise ValueError("no recording of the test can be predicted, so that no bands can be checked")
    return found


def identify_recordings(trained: Trained) -> Identified:
    """Identifies the terms of a family from the recordings that a learner was trained on."""
    recordings = read_again(trained.settings["training"]["data"])
    friction = trained.settings["recordings"].get("friction", [])
    return identify_recorded(trained.learner, members_of(recordings, friction), known_numbers(recordings))
