"""How well a learner predicts new systems."""

from meta_hamiltonian.evaluation.errors import Errors, measure
from meta_hamiltonian.evaluation.table import COLUMNS, Result, evaluate, write_rows
from meta_hamiltonian.evaluation.testset import TestSet, make_test_set, state_grid

__all__ = ["COLUMNS", "Errors", "Result", "TestSet", "evaluate", "make_test_set", "measure", "state_grid", "write_rows"]
