"""Learners from checkpoints, without running anything that a checkpoint brings."""

import importlib
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from meta_hamiltonian.config import check_settings
from meta_hamiltonian.learners import Adapted, AdaptedSystems, Learner
from meta_hamiltonian.models import FieldNetwork
from meta_hamiltonian.systems import HamiltonianSystem

T = TypeVar("T")

SETTINGS_KEY = "meta_hamiltonian"
"""Where a checkpoint keeps the settings of its system, model and algo, as plain values."""

ADAPTED_KEY = "meta_hamiltonian_adapted"
"""Where the file of an adapted system keeps them."""

HISTORY_KEY = "meta_hamiltonian_history"
"""Where it keeps how the validation loss fell."""

_PREFIX = "learner."  # of the learner's weights in the LightningModule's state_dict
_PACKAGES = ("meta_hamiltonian.systems", "meta_hamiltonian.models", "meta_hamiltonian.learners")


class CheckpointError(ValueError):
    """A file that is no checkpoint of ours. The message is one line."""


def load(path: str | os.PathLike[str]) -> Learner:
    """The learner that a training left.

    **Arguments:**

    - `path`: a run's folder (its `checkpoints/best.ckpt`), or one checkpoint file by itself.

    **Returns:**

    The learner, on the CPU and in the precision it was trained in, ready for `learner.adapt(x, dxdt)`.

    **Raises:**

    `FileNotFoundError` if there is no such file, [`CheckpointError`][] for one that is not ours. Only tensors and
    plain values are read (`weights_only=True`), and only classes of this package are built from them.
    """
    path = find_checkpoint(path)
    checkpoint = read_checkpoint(path)
    try:
        learner = build_learner(checkpoint[SETTINGS_KEY])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:  # such as the settings of a later version
        problem = f"{type(error).__name__}: {_one_line(error)}"
        raise CheckpointError(f"{path}: no learner can be built from its settings: {problem}") from error
    weights = {
        name.removeprefix(_PREFIX): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith(_PREFIX)
    }
    # A float64 training keeps its digits: load_state_dict would round to the learner's own dtype.
    learner.to(dtype=next((value.dtype for value in weights.values() if value.is_floating_point()), torch.float32))
    try:
        learner.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights do not fit its settings: {_one_line(error)}") from error
    return learner


def save_adapted(adapted: Adapted, settings: Mapping[str, Any], path: Path) -> None:
    """Writes one adapted system as plain values and tensors.

    **Arguments:** `settings`: those of the checkpoint that its learner came from.
    """
    systems = adapted.systems
    network = {name: value.detach() for name, value in systems.net.state_dict().items()}
    parameters = {name: value.detach() for name, value in systems.parameters.items()}
    content = {ADAPTED_KEY: dict(settings), "network": network, "parameters": parameters, "scale": systems.scale}
    torch.save(content, path)


def load_adapted(path: str | os.PathLike[str]) -> Adapted:
    """The adapted system that `python -m meta_hamiltonian adapt` left as `adapted.pt`.

    **Raises:** as [`load`][].
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the adapted.pt of an adaptation")
    content = _read(path)
    if not {ADAPTED_KEY, "network", "parameters", "scale"} <= set(content):
        raise CheckpointError(f"{path} is no adapted system: it holds no {ADAPTED_KEY!r} settings")
    net = build_learner(content[ADAPTED_KEY]).net.double()
    try:
        net.load_state_dict(content["network"])
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights do not fit its settings: {_one_line(error)}") from error
    return Adapted(AdaptedSystems(net, content["parameters"], content["scale"]))


def load_system(path: str | os.PathLike[str]) -> HamiltonianSystem:
    """The family that a learner was trained on; arguments and errors as those of [`load`][]."""
    return build(read_checkpoint(find_checkpoint(path))[SETTINGS_KEY]["system"], HamiltonianSystem)


def find_checkpoint(path: str | os.PathLike[str]) -> Path:
    """The file that [`load`][] reads."""
    path = Path(path)
    file = path / "checkpoints" / "best.ckpt" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; give a run's folder or a checkpoint file")
    return file


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint's tensors and plain values; nothing in it is run."""
    checkpoint = _read(path)
    if not {SETTINGS_KEY, "state_dict"} <= set(checkpoint):
        raise CheckpointError(f"{path} is a checkpoint of another program: it holds no {SETTINGS_KEY!r} settings")
    return checkpoint


def _read(path: Path) -> dict[str, Any]:
    if not zipfile.is_zipfile(path):  # what torch.save writes; its reader stumbles over anything else
        raise CheckpointError(f"{path} is not a readable checkpoint: it is truncated, or no checkpoint at all")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path} is not a readable checkpoint: {_one_line(error)}") from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{path} is a checkpoint of another program: it holds no {SETTINGS_KEY!r} settings")
    return checkpoint


def build_learner(settings: Mapping[str, Any]) -> Learner:
    """An untrained learner from its settings, `{"system": {...}, "model": {...}, "algo": {...}}`."""
    system = build(settings["system"], HamiltonianSystem)
    net = build(settings["model"], FieldNetwork, state_dim=system.state_dim, input_scale=system.state_box)
    return build(settings["algo"], Learner, net=net)


def build(settings: Mapping[str, Any], kind: type[T], **more: Any) -> T:
    """One object from its settings: `_target_` names the class, the rest are its arguments."""
    if not isinstance(settings, Mapping):
        raise CheckpointError(f"the settings of a {kind.__name__} are a mapping, not {settings!r}")
    plain = {name: value for name, value in settings.items() if not isinstance(value, Mapping)}
    check_settings(str(settings.get("_target_")).rpartition(".")[2], plain)
    arguments = {
        name: build(value, HamiltonianSystem) if isinstance(value, Mapping) else value
        for name, value in settings.items()
    }
    target = arguments.pop("_target_", None)
    package, _, name = str(target).rpartition(".")
    found = getattr(importlib.import_module(package), name, None) if package in _PACKAGES else None
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise CheckpointError(f"_target_={target} is not a {kind.__name__} of {', '.join(_PACKAGES)}")
    return found(**arguments, **more)


def _one_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
