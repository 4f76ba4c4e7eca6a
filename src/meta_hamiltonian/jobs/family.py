"""The family of a job: that of `system`, with friction and a drive around it, and the network that suits it."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from meta_hamiltonian.basics.registry import registered
from meta_hamiltonian.jobs.composition import GROUPS
from meta_hamiltonian.learners.checkpoint import build
from meta_hamiltonian.models import FieldNetwork
from meta_hamiltonian.systems import SimulatedSystem, System

AROUND = ("friction", "drive")
"""The groups whose families are made around that of `system`, from the inside out."""


def class_settings(config: DictConfig) -> dict[str, dict[str, Any]]:
    """The settings that a checkpoint keeps of `system`, `model` and `algo`: their classes and the arguments of these.

    **Raises:** [`ConfigError`][] for an empty range of a friction or a drive.
    """
    settings = {group: _plain(config, group) for group in GROUPS} | {"system": system_settings(config)}
    if "system" in settings["model"]:  # the law of the family
        settings["model"]["system"] = settings["system"]
    family, network = build(settings["system"], System), registered(settings["model"]["_target_"])
    if settings["model"].get("inputs", "") is None:
        settings["model"]["inputs"] = family.inputs
    assert network is not None
    assert issubclass(network, FieldNetwork)
    learner = registered(settings["algo"]["_target_"])
    if isinstance(family, SimulatedSystem) and not family.conserves_energy:
        resistance = family.resistance
        if resistance is not None and getattr(learner, "shares_head", False):
            # The coefficient of a known kind would be a weight of the head, and the same for all members.
            resistance = resistance._replace(kind=None)
        settings["model"] = network.settings_for_friction(settings["model"], resistance)
    elif getattr(learner, "solves_for_head", False):
        settings["model"] = network.settings_for_solved_head(settings["model"], family.degree)
    return settings


def system_settings(config: DictConfig) -> dict[str, Any]:
    """The class and the arguments of `system`, with friction and a drive around it."""
    settings = _plain(config, "system")
    for group in AROUND:
        if config[group] is not None:
            settings = _plain(config, group) | {"system": settings}
    return settings


def family_name(choices: Mapping[str, Any]) -> str:
    """The name of the family in tables, such as `pendulum+viscous`."""
    return "+".join(str(choices[group]) for group in ("system", *AROUND) if choices.get(group) is not None)


def _plain(config: DictConfig, group: str) -> dict[str, Any]:
    """The values of a group, without those that are missing: a wrapper has no family yet."""
    values: Any = OmegaConf.to_container(config[group], resolve=True)
    return {key: value for key, value in values.items() if not OmegaConf.is_missing(config[group], key)}
