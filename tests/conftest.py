"""Checks every shape in a signature while the tests run."""

import gc
import os
import sys
from pathlib import Path

# A worker of pytest-xdist a core: PyTorch and NumPy read this when they are imported, also in processes of tests.
os.environ["OMP_NUM_THREADS"] = "1"
# Bytecode is kept, also what the import hook below makes of the package: else each worker, and each process that a
# test starts, compiles all of it anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import jaxtyping  # noqa: E402
import pytest  # noqa: E402
import shapes  # noqa: E402

shapes.install()
# Nearly all that the imports of the modules make is kept to the end, and to look for what is not took a tenth of them.
gc.disable()


# The modules that take longest, and come first, so that no worker waits for another at the end.
TESTS = Path(__file__).parent
LONGEST = [TESTS / name for name in (
    "jobs/test_train.py",
    "jobs/test_recorded.py",
    "jobs/test_launchers.py",
    "pages/test_pages.py",
    "jobs/test_faults.py",
    "jobs/test_launch.py",
    "learners/numerics/test_step.py",
    "jobs/test_tracking.py",
    "test_commands.py",
    "jobs/test_own_family.py",
    "pages/test_examples.py",
    "pages/test_site.py",
    "jobs/test_damped_training.py",
    "inference/test_recordings.py",
    "inference/test_fit.py",
    "inference/test_bands.py",
    "inference/test_export.py",
    "test_wheel.py",
)]  # fmt: skip


def pytest_collection_modifyitems(items):
    if missing := [file for file in LONGEST if not file.exists()]:
        raise pytest.UsageError(f"tests/conftest.py: LONGEST names files that are not there: {missing}")
    items.sort(key=lambda item: LONGEST.index(item.path) if item.path in LONGEST else len(LONGEST))
    on_cuda = [item for item in items if item.get_closest_marker("cuda")]
    if not on_cuda:
        return
    import torch

    if not torch.cuda.is_available():
        for item in on_cuda:
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


def pytest_unconfigure():
    gc.unfreeze()


def pytest_runtest_setup(item):
    shapes.begin()


@pytest.fixture
def no_shape_checks():
    """The package as users have it, where a wrong shape meets the code's own checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def adapted_to():
    """Adapted systems whose field and energy are prescribed: the true ones, unless another field is given."""
    from meta_hamiltonian.learners import AdaptedSystems
    from meta_hamiltonian.models import FieldNetwork

    class Prescribed(FieldNetwork):
        has_energy = True

        def __init__(self, system, law):
            super().__init__(system.state_dim, domain=system.domain)
            self.system, self.law = system, law
            self.double()

        def field(self, x):
            raise NotImplementedError

        field_features = field

        def field_with(self, parameters, x):
            return self.law(x, parameters["physical"][:, None])

        def energy_with(self, parameters, x):
            return self.system.hamiltonian(x, parameters["physical"][:, None])

    def make(system, parameters, law=None):
        scale = parameters.new_ones(len(parameters))
        return AdaptedSystems(Prescribed(system, law or system.field), {"physical": parameters}, scale)

    return make
