"""How well a learner predicts new systems."""

from meta_hamiltonian.evaluation.errors import Errors, measure
from meta_hamiltonian.evaluation.evaluate import Result, evaluate
from meta_hamiltonian.evaluation.testset import TestSet, make_test_set

__all__ = ["Errors", "Result", "TestSet", "evaluate", "make_test_set", "measure"]
