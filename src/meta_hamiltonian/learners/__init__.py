"""Learners: how a network is adapted to a new system, and the loss by which it is meta-trained for that."""

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.learners.anil import ANIL
from meta_hamiltonian.learners.camel import CAMEL
from meta_hamiltonian.learners.cavia import CAVIA
from meta_hamiltonian.learners.coda import CoDA
from meta_hamiltonian.learners.encoder import FunctionEncoder
from meta_hamiltonian.learners.finetune import FineTune, Scratch
from meta_hamiltonian.learners.gradient import GradientLearner
from meta_hamiltonian.learners.learner import Learner, Unknowns
from meta_hamiltonian.learners.loss import field_loss, task_scale
from meta_hamiltonian.learners.maml import MAML
from meta_hamiltonian.learners.metasgd import MetaSGD
from meta_hamiltonian.learners.oracle import Oracle
from meta_hamiltonian.learners.ridge import OpenLatentsWarning, Ridge, SeveralAnswersWarning
from meta_hamiltonian.learners.svd import SVD
from meta_hamiltonian.models import Adapted, AdaptedSystems

__all__ = [
    "ANIL",
    "CAMEL",
    "CAVIA",
    "MAML",
    "SVD",
    "Adapted",
    "AdaptedSystems",
    "CoDA",
    "FineTune",
    "FunctionEncoder",
    "GradientLearner",
    "Learner",
    "MetaSGD",
    "OpenLatentsWarning",
    "Oracle",
    "Ridge",
    "Scratch",
    "SeveralAnswersWarning",
    "Unknowns",
    "field_loss",
    "register",
    "task_scale",
]
