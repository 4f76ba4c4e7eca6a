"""How well a learner predicts new systems."""

from typing import TYPE_CHECKING

from meta_hamiltonian.basics.lazy import lazily

if TYPE_CHECKING:
    from meta_hamiltonian.evaluation.errors import Errors, measure
    from meta_hamiltonian.evaluation.testset import TestSet, make_test_set
    from meta_hamiltonian.evaluation.trials import Result, evaluate

__all__ = ["Errors", "Result", "TestSet", "evaluate", "make_test_set", "measure"]

__getattr__ = lazily(
    __name__,
    {"errors": ("Errors", "measure"), "testset": ("TestSet", "make_test_set"), "trials": ("Result", "evaluate")},
)
