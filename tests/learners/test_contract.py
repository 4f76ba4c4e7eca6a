"""Every learner, held to the contract."""

import torch
from learner_contract import LearnerContract

from meta_hamiltonian.learners import (
    ANIL,
    CAMEL,
    CAVIA,
    MAML,
    SVD,
    CoDA,
    FineTune,
    FunctionEncoder,
    MetaSGD,
    Oracle,
    Ridge,
)
from meta_hamiltonian.models import DissipativeNetwork, HamiltonianNetwork, ParametricHamiltonian, VectorFieldNetwork
from meta_hamiltonian.systems import HenonHeiles, Pendulum


def network(domain, kind=HamiltonianNetwork, **more):
    return kind(width=7, depth=2, domain=domain, **more).double()


class TestMAML(LearnerContract):
    def make(self, domain):
        return MAML(network(domain), lr=0.01, inner_steps=2, learn_lr=True, scale="task").double()


class TestMAMLWithoutPhysics(LearnerContract):
    def make(self, domain):
        return MAML(network(domain, VectorFieldNetwork), lr=0.01, inner_steps=2, scale="task").double()


class TestMAMLThroughLearn2learn(LearnerContract):
    def make(self, domain):
        return MAML(network(domain), lr=0.01, inner_steps=2, scale="task", backend="learn2learn").double()


class TestANIL(LearnerContract):
    def make(self, domain):
        return ANIL(network(domain), lr=0.05, inner_steps=2, learn_lr=True, scale="task").double()


class TestMetaSGD(LearnerContract):
    def make(self, domain):
        return MetaSGD(network(domain), lr=0.01, inner_steps=2, scale="task").double()


class TestRidge(LearnerContract):
    adapts_exactly = 1e-6  # variances are inferred

    def make(self, domain):
        return Ridge(network(domain, activation="sin"), rank=4, noise=1e-2, scale="task").double()


class TestRidgeWithLatents(LearnerContract):
    adapts_exactly = 1e-6

    def make(self, domain):
        return Ridge(network(domain, activation="sin"), rank=4, noise=1e-2, scale="task", latents=1).double()


class TestRidgeWithoutPhysics(LearnerContract):
    adapts_exactly = 1e-6

    def make(self, domain):
        return Ridge(network(domain, VectorFieldNetwork), rank=4, noise=1e-2, scale="task").double()


class TestMAMLWithFriction(LearnerContract):
    def make(self, domain):
        net = network(domain, DissipativeNetwork, friction_width=3)
        return MAML(net, lr=0.01, inner_steps=2, learn_lr=True, scale="task").double()


class TestANILWithFriction(LearnerContract):
    def make(self, domain):
        net = network(domain, DissipativeNetwork, friction="quadratic")
        return ANIL(net, lr=0.05, inner_steps=2, learn_lr=True, scale="task").double()


class TestRidgeWithFriction(LearnerContract):
    adapts_exactly = 1e-6

    def make(self, domain):
        net = network(domain, DissipativeNetwork, activation="sin", friction="viscous")
        return Ridge(net, rank=4, noise=1e-2, scale="task").double()


def prepared(learner):
    """With a context for each of the contract's five tasks."""
    learner.prepare(5)
    torch.nn.init.normal_(learner.contexts, std=0.3)
    return learner.double()


class TestCAMEL(LearnerContract):
    def make(self, domain):
        return prepared(CAMEL(network(domain), dimension=3, scale="task"))


class TestCAMELWithoutPhysics(LearnerContract):
    def make(self, domain):
        return prepared(CAMEL(network(domain, VectorFieldNetwork), dimension=3, scale="task"))


class TestCAMELWithFriction(LearnerContract):
    def make(self, domain):
        return prepared(CAMEL(network(domain, DissipativeNetwork, friction="viscous"), dimension=3, scale="task"))


class TestCoDA(LearnerContract):
    adapts_exactly = 1e-6  # Adam divides by the size of a gradient

    def make(self, domain):
        return prepared(CoDA(network(domain), dimension=2, steps=3, scale="task"))


class TestCoDAWithFriction(LearnerContract):
    adapts_exactly = 1e-6

    def make(self, domain):
        net = network(domain, DissipativeNetwork, friction_width=3)
        return prepared(CoDA(net, dimension=2, penalty="l2", steps=3, scale="task"))


class TestSVD(LearnerContract):
    adapts_exactly = 1e-6

    def make(self, domain):
        return prepared(SVD(network(domain), dimension=3, rank=2, steps=3, scale="task"))


class TestSVDWithFriction(LearnerContract):
    adapts_exactly = 1e-6

    def make(self, domain):
        net = network(domain, DissipativeNetwork, friction_width=3)
        return prepared(SVD(net, dimension=3, rank=2, steps=3, scale="task"))


class TestFunctionEncoder(LearnerContract):
    adapts_exactly = 1e-6  # its normal equations are nearly singular

    def make(self, domain):
        return FunctionEncoder(network(domain), basis=4, ridge=1e-4, scale="task").double()


class TestCAVIA(LearnerContract):
    def make(self, domain):
        return CAVIA(network(domain), dimension=3, lr=0.1, inner_steps=2, scale="task").double()


class TestCAVIAWithoutPhysics(LearnerContract):
    def make(self, domain):
        return CAVIA(network(domain, VectorFieldNetwork), dimension=3, inner_steps=2, scale="task").double()


class TestCAVIAWithFriction(LearnerContract):
    def make(self, domain):
        return CAVIA(network(domain, DissipativeNetwork, friction_width=3), dimension=3, inner_steps=2).double()


class TestCAVIAThroughLearn2learn(LearnerContract):
    def make(self, domain):
        return CAVIA(network(domain), dimension=3, inner_steps=2, scale="task", backend="learn2learn").double()


class TestFineTune(LearnerContract):
    def make(self, domain):
        return FineTune(network(domain), lr=0.01, scale="task").double()


class TestOracle(LearnerContract):
    adapts_exactly = 1e-6

    def make(self, domain):
        family = Pendulum() if domain.degrees_of_freedom == 1 else HenonHeiles()
        return Oracle(ParametricHamiltonian(family)).double()

    # Its fit is SciPy's: nothing is trained through it.
    test_the_meta_gradient_is_that_of_autograd = None  # pyright: ignore[reportAssignmentType]
    test_points_that_a_task_does_not_have_do_not_matter = None  # pyright: ignore[reportAssignmentType]
    test_float32_is_float64_with_fewer_digits = None  # pyright: ignore[reportAssignmentType]


def test_the_oracle_leaves_out_points_that_a_task_does_not_have():
    from learner_contract import padded, tasks_of

    learner, whole = TestOracle().make(Pendulum().domain), tasks_of(1)
    x = Pendulum().domain.grid(5).expand(5, 25, -1)
    short, masked = (
        next(iter(learner.adapt_tasks(s, [1]))).field(x) for s in (whole.support.first(6), padded(whole.support, 6))
    )
    torch.testing.assert_close(short, masked, rtol=1e-6, atol=1e-9)
