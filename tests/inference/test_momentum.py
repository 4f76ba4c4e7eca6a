"""Whether p = inertia · dq/dt is right for a family, for families whose members are written down."""

import pytest
import torch
from observed import SYSTEM, learner

from meta_hamiltonian.inference.momentum import check_momentum
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.models import FieldNetwork, HamiltonianNetwork, VectorFieldNetwork
from meta_hamiltonian.observations import ObservationError
from meta_hamiltonian.systems import Domain

BOX = Domain.box((1.0, 1.0, 2.0, 2.0))


class Terms(FieldNetwork):
    """H = a p₁²/2 + b p₂²/2 + c p₁ p₂ − d cos q₁ − e cos q₂, or with cos(q₁ − q₂) p₁ p₂ as in a double pendulum."""

    has_energy = True

    def __init__(self, turning=False):
        super().__init__(4, domain=BOX)
        self.turning = turning
        self.head = torch.nn.Linear(5, 1, bias=False)

    def field(self, x):
        return self.head(self.field_features(x))[..., 0]

    def field_features(self, x):
        q1, q2, p1, p2 = x.unbind(-1)
        zero, part = torch.zeros_like(q1), torch.cos(q1 - q2) if self.turning else torch.ones_like(q1)
        slope = torch.sin(q1 - q2) * p1 * p2 if self.turning else zero
        by_term = [
            (p1, zero, zero, zero),
            (zero, p2, zero, zero),
            (part * p2, part * p1, slope, -slope),
            (zero, zero, -q1.sin(), zero),
            (zero, zero, zero, -q2.sin()),
        ]
        return torch.stack([torch.stack(term, dim=-1) for term in by_term], dim=-1)


def family(mean, free, turning=False):
    """Members differ in the coefficients that are free; the others are the mean's."""
    ridge = Ridge(Terms(turning), rank=5).double()
    with torch.no_grad():
        ridge.net.head.weight.copy_(torch.tensor([mean]))
        ridge.prior_factor.copy_(torch.diag(torch.tensor(free)))
    return ridge


SEPARATE = [1.0, 1.0, 0.0, 0.5, 0.5]
MIXED = [1.0, 1.0, 0.6, 0.5, 0.5]
ALL, ALL_BUT_THE_MIXING = [1.0] * 5, [1.0, 1.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize("inertia", [0.125, 0.5, 1.0, 3.7, 125.0])
def test_a_pendulum_has_any_inertia(inertia):
    """m l² of the family goes from 1/8 to 125."""
    check_momentum(learner(), torch.tensor([inertia], dtype=torch.float64))


@pytest.mark.parametrize("inertia", [(1.0, 1.0), (0.3, 8.0)])
@pytest.mark.parametrize(("mean", "free"), [(SEPARATE, ALL), (SEPARATE, ALL_BUT_THE_MIXING), (MIXED, ALL)])
def test_a_family_with_such_members_passes(mean, free, inertia):
    """Even where others of its members mix momenta."""
    check_momentum(family(mean, free), torch.tensor(inertia, dtype=torch.float64))


@pytest.mark.parametrize("inertia", [(1.0, 1.0), (0.3, 8.0)])
@pytest.mark.parametrize("turning", [False, True], ids=["constant", "as a double pendulum"])
def test_a_family_whose_velocities_mix_momenta_is_refused_in_one_line(inertia, turning):
    with pytest.raises(
        ObservationError, match=r"misses it by \d+%.*give momenta \(columns t,q,p or q1…, p1…\)"
    ) as error:
        check_momentum(family(MIXED, ALL_BUT_THE_MIXING, turning), torch.tensor(inertia, dtype=torch.float64))
    assert "\n" not in str(error.value)


def test_a_family_of_one_inertia_has_no_other():
    only = family(SEPARATE, [0.0, 0.0, 1.0, 1.0, 1.0])
    check_momentum(only, torch.ones(2, dtype=torch.float64))
    with pytest.raises(ObservationError, match="no member of this family"):
        check_momentum(only, torch.tensor([1.0, 2.0], dtype=torch.float64))


def test_velocities_that_are_any_function_of_the_state_are_refused():
    torch.manual_seed(0)
    ridge = Ridge(HamiltonianNetwork(width=16, depth=1, activation="sin", domain=BOX), rank=3)
    with pytest.raises(ObservationError, match="give momenta"):
        check_momentum(ridge, torch.ones(2, dtype=torch.float64))


def test_learners_that_do_not_know_their_family_cannot_tell():
    check_momentum(learner("maml"), torch.ones(1, dtype=torch.float64))
    check_momentum(learner("anil"), torch.ones(1, dtype=torch.float64))
    torch.manual_seed(0)
    check_momentum(Ridge(VectorFieldNetwork(width=8, domain=SYSTEM.domain)), torch.ones(1, dtype=torch.float64))


def test_the_learner_is_not_changed():
    ridge = family(SEPARATE, ALL).float()
    check_momentum(ridge, torch.ones(2, dtype=torch.float64))
    assert ridge.net.head.weight.dtype == torch.float32
