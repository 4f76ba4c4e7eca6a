"""The configuration: each key's type, range and help text. The values are in `conf/`."""

from meta_hamiltonian.basics.exceptions import ConfigError
from meta_hamiltonian.config.checks import check, check_arguments, check_settings, says
from meta_hamiltonian.config.schema import SCHEMAS

__all__ = ["SCHEMAS", "ConfigError", "check", "check_arguments", "check_settings", "says"]
