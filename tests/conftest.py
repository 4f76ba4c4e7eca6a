"""Checks every shape in a signature while the tests run."""

from jaxtyping import install_import_hook

# Before the first import of the package, whose functions are then checked by beartype.
install_import_hook("meta_hamiltonian", "beartype.beartype")
