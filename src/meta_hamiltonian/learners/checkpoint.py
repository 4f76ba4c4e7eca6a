"""Learners from checkpoints, without running or importing anything that a checkpoint brings."""

import dataclasses
import os
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from meta_hamiltonian.basics.exceptions import CheckpointError
from meta_hamiltonian.basics.plain_values import find_checkpoint
from meta_hamiltonian.basics.registry import registered
from meta_hamiltonian.config import check_settings
from meta_hamiltonian.dynamics import Domain, Forces, Signal
from meta_hamiltonian.learners.learner import Learner
from meta_hamiltonian.models import Adapted, AdaptedSystems, FieldNetwork
from meta_hamiltonian.systems import SimulatedSystem, System

T = TypeVar("T")

SETTINGS_KEY = "meta_hamiltonian"
"""Where a checkpoint keeps the settings of its system, model and algo, as plain values."""

ADAPTED_KEY = "meta_hamiltonian_adapted"
"""Where the file of an adapted system keeps these settings."""

HISTORY_KEY = "meta_hamiltonian_history"
"""Where a checkpoint keeps how the validation loss fell."""

_PREFIX = "learner."  # of the learner's weights in the LightningModule's state_dict


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a training left.

    - `learner`: on the CPU and in the precision it was trained in.
    - `system`: the family that it was trained on.
    - `settings`: plain values from which both can be built again.
    - `history`: `step`, `seconds` and `loss` of every validation; empty where nothing was trained.
    """

    learner: Learner
    system: System
    settings: Mapping[str, Any]
    history: Sequence[Mapping[str, int | float]]

    @property
    def simulated(self) -> SimulatedSystem:
        """The family, where new members of it can be drawn.

        **Raises:** [`CheckpointError`][] where its law is not known.
        """
        if not isinstance(self.system, SimulatedSystem):
            raise CheckpointError(f"{self.system.name} has no known law: new members of it cannot be simulated")
        return self.system

    @property
    def validation_loss(self) -> float | None:
        """The smallest validation loss; None where nothing was trained."""
        return min((row["loss"] for row in self.history), default=None)


def load(path: str | os.PathLike[str]) -> Learner:
    """The learner that a training left.

    **Arguments:**

    - `path`: a run's folder (its `checkpoints/best.ckpt`), or one checkpoint file by itself.

    **Returns:**

    The learner, on the CPU and in the precision it was trained in, ready for `learner.adapt(x, dxdt)`.

    **Raises:**

    `FileNotFoundError` if there is no such file, [`CheckpointError`][] for one that is not ours. Only tensors and
    plain values are read (`weights_only=True`), and only classes that this process has registered are built from
    them: those of this package, and those of whatever else was imported before.
    """
    return load_trained(path).learner


def load_trained(path: str | os.PathLike[str]) -> Trained:
    """The learner with its family, settings and history; arguments and errors as for [`load`][]."""
    path = find_checkpoint(Path(path))
    checkpoint = read_checkpoint(path)
    settings = checkpoint[SETTINGS_KEY]
    try:
        system = build_system(settings)
        learner = build_learner(settings)
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
    return Trained(learner, system, settings, checkpoint.get(HISTORY_KEY) or [])


def save_adapted(adapted: Adapted, settings: Mapping[str, Any], path: Path, warnings: Sequence[str] = ()) -> None:
    """Writes one adapted system as plain values and tensors.

    **Arguments:**

    - `settings`: those of the checkpoint that its learner came from.
    - `warnings`: what whoever uses the system is to be told.
    """
    systems = adapted.systems
    network = {name: value.detach() for name, value in systems.net.state_dict().items()}
    parameters = {name: value.detach() for name, value in systems.parameters.items()}
    content = {ADAPTED_KEY: dict(settings), "network": network, "parameters": parameters, "scale": systems.scale}
    content["warnings"] = list(warnings)
    if systems.forces is not None:
        content["forces"] = _forces_content(systems.forces)
    torch.save(content, path)


def load_adapted(path: str | os.PathLike[str]) -> Adapted:
    """The adapted system that `python -m meta_hamiltonian adapt` left as `adapted.pt`.

    **Raises:** as [`load`][].
    """
    path = Path(path)
    content = _read_adapted(path)
    try:
        net = build_learner(content[ADAPTED_KEY]).net.double()
        net.load_state_dict(content["network"])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights do not fit its settings: {_one_line(error)}") from error
    forces = _forces(content["forces"]) if "forces" in content else None
    return Adapted(AdaptedSystems(net, content["parameters"], content["scale"], forces))


def warnings_of_adapted(path: str | os.PathLike[str]) -> Sequence[str]:
    """The warnings that were saved with an adapted system.

    **Raises:** as [`load`][].
    """
    return [str(warning) for warning in _read_adapted(Path(path)).get("warnings", [])]


def _read_adapted(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the adapted.pt of an adaptation")
    content = _read(path)
    if not {ADAPTED_KEY, "network", "parameters", "scale"} <= set(content):
        raise CheckpointError(f"{path} is no adapted system: it holds no {ADAPTED_KEY!r} settings")
    return content


def _forces_content(forces: Forces) -> dict[str, Any]:
    """Friction and inputs as plain values and tensors."""
    signal = None if forces.signal is None else {"t": forces.signal.t, "u": forces.signal.u}
    return {
        "kinds": list(forces.kinds),
        "coefficients": forces.coefficients,
        "width": forces.width,
        "gains": forces.gains,
        "signal": signal,
    }


def _forces(content: Mapping[str, Any]) -> Forces:
    signal = None if content["signal"] is None else Signal(content["signal"]["t"], content["signal"]["u"])
    return Forces(tuple(content["kinds"]), content["coefficients"], content["width"], content["gains"], signal)


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
    """An untrained learner from its settings.

    **Arguments:**

    - `settings`: `{"system": {...}, "model": {...}, "algo": {...}}`; and `domain`, which checkpoints of earlier
        versions do not have: it then is the system's.
    """
    system = build(
        settings["system"], System
    )  # a class that nobody registered is refused, though only its name is used
    domain = Domain.from_settings(settings["domain"]) if "domain" in settings else system.domain
    return build(settings["algo"], Learner, net=build(settings["model"], FieldNetwork, domain=domain))


def build_system(settings: Mapping[str, Any]) -> System:
    """The family of a checkpoint; one without a formula lives where the checkpoint says."""
    found = registered(str(settings["system"].get("_target_")))
    if found is not None and issubclass(found, System) and found.domain_from_data and "domain" in settings:
        return build(settings["system"], System, domain=Domain.from_settings(settings["domain"]))
    return build(settings["system"], System)


def build(settings: Mapping[str, Any], kind: type[T], **more: Any) -> T:
    """One object from its settings: `_target_` names the class, the rest are its arguments.

    **Raises:** [`CheckpointError`][] for a class that this process has not registered.
    """
    if not isinstance(settings, Mapping):
        raise CheckpointError(f"the settings of a {kind.__name__} are a mapping, not {settings!r}")
    plain = {name: value for name, value in settings.items() if not isinstance(value, Mapping)}
    target = str(settings.get("_target_"))
    check_settings(target.rpartition(".")[2], plain)
    arguments = {
        name: build(value, System) if isinstance(value, Mapping) else value for name, value in settings.items()
    }
    arguments.pop("_target_", None)
    found = registered(target)
    if found is None or not issubclass(found, kind):
        package = target.rpartition(".")[0] or "its package"
        raise CheckpointError(
            f"_target_={target} is not a {kind.__name__} that this process knows; classes are registered when their "
            f"module is imported: import {package} before, or give --import {package} on the command line"
        )
    return found(**arguments, **more)


def _one_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
