"""A family of the configuration, for commands that need no training."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from meta_hamiltonian.basics.exceptions import ConfigError
from meta_hamiltonian.config import check
from meta_hamiltonian.jobs.composition import conf_folder, import_classes, register_schemas
from meta_hamiltonian.jobs.refusals import refusal

if TYPE_CHECKING:
    from meta_hamiltonian.systems import SimulatedSystem


def chosen_family(overrides: Sequence[str]) -> "SimulatedSystem":
    """The family of overrides such as `system=pendulum +friction=viscous system.gravity=9.81`.

    **Raises:** [`ConfigError`][] for one that does not exist or has no formula.
    """
    register_schemas()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        try:
            config = compose("config", list(overrides))
        except HydraException as error:
            words = refusal(error, overrides)
            first, *_ = str(error).strip().splitlines()
            raise ConfigError(words or f"{' '.join(overrides)} is not allowed: {first}") from error
    check(config)

    # Here, since it takes seconds that a refusal need not.
    from meta_hamiltonian.jobs.family import system_settings
    from meta_hamiltonian.learners.checkpoint import build
    from meta_hamiltonian.systems import SimulatedSystem, System

    import_classes(config)
    system = build(system_settings(config), System)
    if not isinstance(system, SimulatedSystem):
        raise ConfigError(f"system={system.name} is not allowed: only a family with a formula can be simulated")
    return system
