"""What holds for every family: a test class inherits from one of the contracts and says which family it is about."""

import math

import pytest
import torch

from meta_hamiltonian.dynamics import autograd_field
from meta_hamiltonian.dynamics.friction import FRICTION
from meta_hamiltonian.episodes import sample_episodes

TASKS, POINTS = 6, 12


class FamilyContract:
    """What every family keeps. Subclasses have a fixture `system`."""

    @pytest.fixture
    def drawn(self, system):
        """Parameters, and states that each of their systems admits."""
        parameters = system.sample_parameters(TASKS, seed=0)
        return parameters, system.sample_states(parameters, 0, ("contract",), range(TASKS), POINTS)

    def test_parameters_lie_in_their_ranges_and_belong_to_their_task(self, system):
        low, high = torch.tensor(system.parameter_ranges, dtype=torch.float64).T
        parameters = system.sample_parameters(200, seed=1)
        assert parameters.shape == (200, len(system.parameter_names))
        assert ((low <= parameters) & (parameters <= high)).all()
        assert torch.equal(system.sample_parameters(range(50, 60), seed=1), parameters[50:60])
        assert not torch.equal(system.sample_parameters(10, seed=1, split="val"), parameters[:10])

    def test_states_lie_in_the_domain_and_fewer_are_the_first_of_more(self, system, drawn):
        parameters, x = drawn
        assert not system.domain.outside(x, angles=True).any()
        assert system.admits(x, parameters[:, None]).all()
        again = system.sample_states(parameters[2:4], 0, ("contract",), range(2, 4), 5)
        assert torch.equal(again, x[2:4, :5])

    def test_the_grid_has_a_size_that_does_not_grow_with_the_dimension(self, system):
        grid = system.domain.grid()
        assert grid.shape == (2500, system.state_dim)
        assert torch.equal(grid, system.domain.grid())
        assert not system.domain.outside(grid, angles=True).any()

    def orbits(self, system):
        """True orbits that stay in the domain, and the energy along them."""
        assert 0 < system.horizon < math.inf
        parameters = system.sample_parameters(4, seed=2, split="test")
        x0 = system.sample_initial_states(parameters, seed=2)
        assert torch.equal(x0, system.sample_initial_states(parameters, seed=2))
        orbit = system.orbit(x0, parameters, torch.linspace(0, system.horizon, 41, dtype=torch.float64))
        assert torch.equal(orbit[0], x0)
        assert not system.domain.outside(orbit, angles=not system.turns).any()
        return parameters, orbit, system.hamiltonian(orbit, parameters)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_episodes_have_the_dtype_that_is_asked_for(self, system, dtype):
        episodes = sample_episodes(system, 3, 4, 5, seed=0, dtype=dtype)
        assert episodes.support.x.dtype == episodes.query.dxdt.dtype == dtype
        assert episodes.query.x.shape == (3, 5, system.state_dim)
        assert episodes.parameters is not None
        field = system.field(episodes.query.x, episodes.parameters[:, None])
        torch.testing.assert_close(field, episodes.query.dxdt, rtol=2e-5, atol=1e-5 * field.abs().max().item())


class SystemContract(FamilyContract):
    """What families that conserve energy keep."""

    def test_the_field_is_the_symplectic_gradient_by_autograd(self, system, drawn):
        parameters, x = drawn
        expected = autograd_field(lambda x: system.hamiltonian(x, parameters[:, None]), x)
        torch.testing.assert_close(system.field(x, parameters[:, None]), expected, rtol=1e-11, atol=1e-12)

    def test_the_field_is_the_symplectic_gradient_by_differences(self, system, drawn):
        parameters, x = drawn
        step = 1e-5 * torch.tensor(system.state_box, dtype=torch.float64)
        gradient = torch.stack(
            [
                (
                    system.hamiltonian(x + step * unit, parameters[:, None])
                    - system.hamiltonian(x - step * unit, parameters[:, None])
                )
                / (2 * step[i])
                for i, unit in enumerate(torch.eye(system.state_dim, dtype=torch.float64))
            ],
            dim=-1,
        )
        dq, dp = system.field(x, parameters[:, None]).chunk(2, dim=-1)
        found = torch.cat([-dp, dq], dim=-1)
        assert (found - gradient).abs().max() <= 1e-7 * found.abs().max()

    def test_the_jacobian_of_the_field_is_symplectic(self, system, drawn):
        parameters, x = drawn
        jacobian = torch.func.vmap(torch.func.jacrev(lambda x, own: system.field(x, own)))(x[:, 0], parameters)
        n = system.state_dim // 2
        one, zero = torch.eye(n, dtype=torch.float64), torch.zeros(n, n, dtype=torch.float64)
        omega = torch.cat([torch.cat([zero, one], 1), torch.cat([-one, zero], 1)])
        assert (jacobian.mT @ omega + omega @ jacobian).abs().max() <= 1e-10 * jacobian.abs().max()

    def test_true_orbits_conserve_energy_and_stay_in_the_domain(self, system):
        assert system.conserves_energy
        parameters, _, energy = self.orbits(system)
        scale = (system.hamiltonian(system.domain.grid(), parameters[:, None]) - energy[0, :, None]).abs().mean(-1)
        assert ((energy - energy[0]).abs().amax(0) <= 1e-8 * scale).all()


class DampedContract(FamilyContract):
    """What families with friction keep. Subclasses have a fixture `plain`, the family without friction, too."""

    def test_energy_falls_at_the_rate_at_which_friction_works(self, system, drawn):
        """dH/dt = −d v · ∂R/∂v, where ∂R/∂v is that of autograd."""
        parameters, x = drawn
        d, damped = parameters[:, None, self.coefficient], system.resistance.damped
        friction = FRICTION[system.resistance.kind]
        field = system.field(x, parameters[:, None])
        v = field[..., :damped]
        of_v = torch.func.grad(lambda v: friction.rayleigh(v, system.resistance.width).sum())(v)
        gradient = torch.func.grad(lambda x: system.hamiltonian(x, parameters[:, None]).sum())(x)
        rate, expected = (gradient * field).sum(-1), -d * (v * of_v).sum(-1)
        assert ((rate - expected).abs() <= 1e-8 * (gradient * field).abs().sum(-1) + 1e-12).all()
        assert (expected <= 0).all()

    def test_friction_acts_on_momenta_alone_and_not_at_all_where_its_coefficient_is_0(self, system, plain, drawn):
        parameters, x = drawn
        others = [i for i in range(parameters.shape[1]) if i != self.coefficient % parameters.shape[1]]
        own = parameters[:, None, others]
        field, without = system.field(x, parameters[:, None]), plain.field(x, own)
        n = system.domain.degrees_of_freedom
        assert torch.equal(field[..., :n], without[..., :n])
        free = parameters.clone()
        free[:, self.coefficient] = 0
        assert torch.equal(system.field(x, free[:, None]), without)
        assert torch.equal(system.hamiltonian(x, parameters[:, None]), plain.hamiltonian(x, own))

    def test_energy_never_rises_along_true_orbits_which_stay_in_the_domain(self, system):
        assert not system.conserves_energy
        _, _, energy = self.orbits(system)
        assert (energy.diff(dim=0) <= 1e-9 * energy.abs().amax(0)).all()
        assert (energy[-1] < energy[0]).all()

    coefficient = -1
    """Which parameter is that of friction."""
