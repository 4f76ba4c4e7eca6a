"""The contract of the families, and what a family gets that does not write it."""

import pytest
import torch
from contract import SystemContract
from toda import Toda

from meta_hamiltonian.systems import (
    Chain,
    Domain,
    DoublePendulum,
    Duffing,
    Exclusion,
    HenonHeiles,
    Kepler,
    LotkaVolterra,
    Pendulum,
    SimulatedSystem,
    Spring,
    SpringPendulum,
    TwoBody,
)


class TestPendulum(SystemContract):
    @pytest.fixture
    def system(self):
        return Pendulum()


class TestPendulumOnJupiter(SystemContract):
    @pytest.fixture
    def system(self):
        return Pendulum(gravity=2.5)


class TestSpring(SystemContract):
    @pytest.fixture
    def system(self):
        return Spring()


class TestDuffing(SystemContract):
    @pytest.fixture
    def system(self):
        return Duffing()


class TestLotkaVolterra(SystemContract):
    @pytest.fixture
    def system(self):
        return LotkaVolterra()


class TestKepler(SystemContract):
    @pytest.fixture
    def system(self):
        return Kepler()


class TestKeplerWithAnUnknownSun(SystemContract):
    @pytest.fixture
    def system(self):
        return Kepler(centre=1.0)


class TestHenonHeiles(SystemContract):
    @pytest.fixture
    def system(self):
        return HenonHeiles()


class TestSpringPendulum(SystemContract):
    @pytest.fixture
    def system(self):
        return SpringPendulum()


def test_a_spring_pendulum_of_known_rest_length_is_one_of_length_1():
    known, unknown = SpringPendulum(spread=0.0), SpringPendulum()
    parameters = known.sample_parameters(4, seed=0)
    x = known.sample_states(parameters, 0, ("known",), range(4), 5)
    of_length_1 = torch.cat([parameters, torch.ones(4, 1).double()], dim=1)
    assert torch.equal(known.field(x, parameters[:, None]), unknown.field(x, of_length_1[:, None]))


class TestDoublePendulum(SystemContract):
    @pytest.fixture
    def system(self):
        return DoublePendulum()


class TestDoublePendulumOnJupiter(SystemContract):
    @pytest.fixture
    def system(self):
        return DoublePendulum(gravity=2.5)


class TestChain(SystemContract):
    @pytest.fixture
    def system(self):
        return Chain()


class TestChainOfTwo(SystemContract):
    @pytest.fixture
    def system(self):
        return Chain(2)


class TestLongChain(SystemContract):
    @pytest.fixture
    def system(self):
        return Chain(32)


class TestTwoBody(SystemContract):
    @pytest.fixture
    def system(self):
        return TwoBody()


class TestAFamilyOutsideThePackage(SystemContract):
    @pytest.fixture
    def system(self):
        return Toda()


class SunElsewhere(SimulatedSystem):
    """Around a known centre away from 0, with the surroundings of the singularity left out."""

    parameter_names = ("k",)
    parameter_ranges = ((0.5, 2.0),)
    horizon = 20.0
    domain = Domain.box(
        {"q1": (-2.0, 4.0), "q2": (-3.0, 3.0), "p1": (-2.0, 2.0), "p2": (-2.0, 2.0)},
        exclusions=(Exclusion(((1, 0, 0, 0), (0, 1, 0, 0)), (1.0, 0.0), 0.3),),
    )

    def hamiltonian(self, x, parameters):
        q, p = x.chunk(2, dim=-1)
        radius = (q - torch.tensor([1.0, 0.0], dtype=x.dtype)).norm(dim=-1)
        return p.square().sum(-1) / 2 - parameters[..., 0] / radius


class TestAFamilyWithASingularityAndACentre(SystemContract):
    @pytest.fixture
    def system(self):
        return SunElsewhere()

    def test_no_point_lies_near_the_singularity(self, system):
        for x in (system.domain.grid(), system.domain.draw(0, ("a",), range(20), 50)):
            assert ((x[..., :2] - torch.tensor([1.0, 0.0])).norm(dim=-1) >= 0.3).all()

    @pytest.mark.parametrize("eccentricity", [0.98, 0.99])
    def test_a_true_orbit_is_never_frozen(self, system, eccentricity):
        """Two periods of a very eccentric orbit, against Kepler's equation."""
        a, k = 1.0, torch.tensor([[1.0]], dtype=torch.float64)
        x0 = torch.tensor([[1 + a * (1 + eccentricity), 0, 0, ((1 - eccentricity) / (1 + eccentricity)) ** 0.5]])
        t = torch.linspace(0, 4 * torch.pi, 81, dtype=torch.float64)
        orbit = system.orbit(x0.double(), k, t)[:, 0]
        mean = t + torch.pi  # from the far end
        anomaly = (mean / (2 * torch.pi)).floor() * 2 * torch.pi + torch.pi  # from where Newton's method always arrives
        for _ in range(100):
            anomaly -= (anomaly - eccentricity * anomaly.sin() - mean) / (1 - eccentricity * anomaly.cos())
        expected = torch.stack(
            [1 - a * (anomaly.cos() - eccentricity), -((1 - eccentricity**2) ** 0.5) * anomaly.sin()], -1
        )
        torch.testing.assert_close(orbit[:, :2], expected, rtol=0, atol=1e-5)


class Oscillator(SimulatedSystem):
    parameter_names = ("omega",)
    parameter_ranges = ((0.01, 0.01001),)
    domain = Domain.box((1.0, 0.01))

    def hamiltonian(self, x, parameters):
        return x[..., 1] ** 2 / 2 + parameters[..., 0] ** 2 * x[..., 0] ** 2 / 2


def test_a_horizon_is_ten_periods_in_the_familys_own_time():
    assert Oscillator().horizon == pytest.approx(10 * 2 * torch.pi / 0.01, rel=0.1)


class Runaway(Oscillator):
    def hamiltonian(self, x, parameters):
        return 1000.0 * x[..., 1] + 0.0 * x[..., 0]


def test_a_family_whose_orbits_all_leave_says_so():
    system = Runaway()
    system.horizon = 10.0
    with pytest.raises(ValueError, match=r"no orbit stays in its domain .*write sample_initial_states"):
        system.sample_initial_states(system.sample_parameters(2, 0), 0)


def test_a_true_orbit_that_meets_a_singularity_is_an_error():
    """Straight into the centre: no step is small enough."""
    with pytest.raises(ValueError, match="singularity"):
        SunElsewhere().orbit(
            torch.tensor([[1.1, 0, 0, 0]], dtype=torch.float64),
            torch.ones(1, 1, dtype=torch.float64),
            torch.tensor([0.0, 0.1]).double(),
        )
