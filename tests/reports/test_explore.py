"""What a browser computes is what Python computes, whatever the network; and what cannot be computed there is said."""

import dataclasses
import functools
import json
import math
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import CHROMIUM, answer

from meta_hamiltonian import load
from meta_hamiltonian.dynamics import Domain, Exclusion, Forces, KineticEnergies, Signal
from meta_hamiltonian.dynamics.inertia import Entry, Factor
from meta_hamiltonian.inference import fit
from meta_hamiltonian.inference.browser import for_browser
from meta_hamiltonian.inference.stages import stages
from meta_hamiltonian.learners import Oracle
from meta_hamiltonian.models import (
    Adapted,
    AdaptedSystems,
    DissipativeNetwork,
    HamiltonianNetwork,
    NaturalNetwork,
    ParametricHamiltonian,
    VectorFieldNetwork,
)
from meta_hamiltonian.observations import Derivatives
from meta_hamiltonian.reports.explore import _method, explore
from meta_hamiltonian.reports.prediction import predict
from meta_hamiltonian.systems import Chain, Duffing, Kepler, Pendulum

DATA = Path(__file__).parents[1] / "data"
SYSTEM = Pendulum()
POLAR = Domain.box(
    {"r": (0.5, 2.0), "phi": (-3, 3), "p_r": (-2, 2), "p_phi": (-2, 2)},
    angles=("phi",),
    exclusions=(Exclusion.around_zero(0, 4, 0.2),),
)
ARMS = Domain.box(
    {"q1": (-3, 3), "q2": (-3, 3), "p1": (-2, 2), "p2": (-2, 2)},
    angles=("q1", "q2"),
    kinetic=KineticEnergies(
        (Entry(0, 0, Factor.one(2)), Entry(0, 1, Factor((0, 0), (1, -1))), Entry(1, 1, Factor.one(2))),
        (),
        (1.0, 0.0, 1.0),
        (0.6, 0.2, 0.4),
        ((0.05, 0.0), (0.01, 0.03), (-0.05, 0.02)),
        matrices=((0.6, 0.2, 0.4), (0.65, 0.21, 0.35), (0.55, 0.22, 0.42)),
        sums=((1.0, 0.0, 0.0), (0.5, -0.7, 0.0), (0.0, 1.0, -0.9)),
    ),
)
PENDULUM, RING, KEPLER, DUFFING = (one.domain for one in (SYSTEM, Chain(), Kepler(), Duffing()))


NETWORKS = {
    "natural, an angle": lambda: NaturalNetwork(domain=PENDULUM, width=24),
    "natural, a ring": lambda: NaturalNetwork(domain=RING, width=24),
    "natural, a singularity": lambda: NaturalNetwork(domain=KEPLER, width=24),
    "natural, products of waves and momenta": lambda: NaturalNetwork(domain=PENDULUM, width=24, degree=4),
    "natural, powers of a distance": lambda: NaturalNetwork(domain=KEPLER, width=24, degree=4),
    "natural, a radius": lambda: NaturalNetwork(domain=POLAR, width=24, degree=4),
    "natural, a mass matrix": lambda: NaturalNetwork(domain=ARMS, width=24, degree=4),
    "tanh, three layers": lambda: HamiltonianNetwork(domain=DUFFING, width=16, depth=3),
    "sines of natural inputs": lambda: HamiltonianNetwork(
        domain=PENDULUM, width=16, depth=1, activation="sin", inputs="natural"
    ),
    "softplus on a ring": lambda: HamiltonianNetwork(
        domain=RING, width=16, depth=2, activation="softplus", inputs="natural"
    ),
    "learned dissipation": lambda: DissipativeNetwork(domain=PENDULUM, width=16, depth=2, activation="silu"),
    "dry friction": lambda: DissipativeNetwork(domain=DUFFING, width=16, depth=2, friction="dry"),
    "no physics": lambda: VectorFieldNetwork(domain=DUFFING, width=16, depth=2),
    "the true law": lambda: ParametricHamiltonian(Duffing()),
}


def adapted(net, generator):
    """One system of a network, every weight its own, with all kinds of friction and an input."""
    net = net.double()
    own = {name: value.detach()[None].clone() for name, value in net.named_parameters()}
    if isinstance(net, NaturalNetwork):  # its energy has a head for each task, and no other weights
        own = {"head.weight": own["head.weight"]}
    n = net.domain.degrees_of_freedom
    draw = functools.partial(torch.rand, dtype=torch.float64, generator=generator)
    signal = Signal(torch.linspace(0, 1, 5, dtype=torch.float64), draw(5, 2))
    forces = Forces(("viscous", "quadratic", "dry"), 0.1 * draw(1, 3), 0.1, draw(1, n, 2), signal)
    return Adapted(AdaptedSystems(net, own, torch.tensor([1.3], dtype=torch.float64), forces))


def scripts():
    folder = resources.files("meta_hamiltonian.reports") / "assets"
    return "\n".join((folder / name).read_text() for name in ("machine.js", "orbits.js"))


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_any_network_is_computed_as_in_python(tmp_path):
    """Fields, energies, and orbits that a measured input drives."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    given, expected = {}, {}
    t = torch.linspace(0, 1.5, 13, dtype=torch.float64)
    for name, make in NETWORKS.items():
        system = adapted(make(), generator)
        domain = system.systems.net.domain
        start = domain.draw(3, ("start",), range(1), 1)[0, 0] * 0.5
        orbits = system.orbits(start[None], t, 1e-11)
        expected[name] = orbits.states[: (1 if orbits.diverged[0] else 13), 0]
        signal = system.systems.forces.signal
        given[name] = {
            **for_browser(system, {}),
            "start": start.tolist(),
            "sizes": domain.sizes,
            "signal": {"t": signal.t.tolist(), "u": signal.u.tolist()},
        }
    values = f"given = {json.dumps(given)}, method = {{...{json.dumps(_method())}, most: 20000}}, t = {t.tolist()}"
    page = f'<meta charset="utf-8"><script>{scripts()} const {values};</script>'
    script = """const found = {};
      for (const [name, one] of Object.entries(given)) {
        const system = machine(one.program), none = [0, 0], worst = {};
        system.choose(numbers(one.system));
        for (const [kind, low] of [["field", 0], ["energy", one.lowest]]) {
          if (!one.check[kind]) continue;
          const size = Math.max(...one.check[kind].flat().map(Math.abs));
          worst[kind] = Math.max(...one.check.x.flatMap((x, i) => [one.check[kind][i]].flat().map(
            (value, j) => Math.abs(system[kind]([...x, ...none])[j] - low - value) / size)));
        }
        found[name] = {worst, states: follow(system, method, one.start, t, 1e-11, one.sizes, one.signal).states};
      }
      return found;"""
    found = answer(page, script, tmp_path)
    assert set(found) == set(NETWORKS)
    for name, one in found.items():
        assert all(error < 1e-12 for error in one["worst"].values()), (name, one["worst"])
        assert ("energy" in one["worst"]) == (name != "no physics")
        states, true = np.array(one["states"]), expected[name].numpy()
        assert len(states) >= len(true), name
        np.testing.assert_allclose(states[: len(true)], true, rtol=1e-7, atol=1e-7, err_msg=name)
    assert sum(len(true) for true in expected.values()) > 100, "most of them are followed to their ends"


def seen(count=12, noise=0.02):
    parameters = torch.tensor([[0.8, 1.1, 0.3]], dtype=torch.float64)
    x = SYSTEM.domain.draw(0, ("seen",), range(1), count)[0]
    generator = torch.Generator().manual_seed(0)
    dxdt = SYSTEM.field(x, parameters)
    dxdt = dxdt + noise * dxdt.std(0) * torch.randn(dxdt.shape, dtype=x.dtype, generator=generator)
    return Derivatives(x.numpy(), dxdt.numpy())


@functools.cache
def fitted(kind):
    learner = load(DATA / f"{kind}.ckpt")
    return learner, fit(learner, seen(), friction="none")


def test_stages_lead_from_nothing_to_what_was_found():
    learner, found = fitted("ridge")
    way = stages(learner, found)
    assert way[0].label == "before any observation"
    assert way[-1].label == "all 12 observations"
    assert [len(stage.samples.scale) for stage in way[1:]] == [39] * (len(way) - 1)
    x = SYSTEM.domain.sobol(200)
    true = SYSTEM.field(x, torch.tensor([[0.8, 1.1, 0.3]], dtype=torch.float64))
    errors = [(stage.system.field(x[None])[0] - true).square().mean().sqrt().item() for stage in way]
    assert errors[-1] < 0.1 * errors[0]
    assert errors[-1] < 0.5 * errors[1]
    # The band of fewer observations is wider.
    spread = [stage.samples.field(x.expand(39, -1, -1)).std(0).mean().item() for stage in way[1:]]
    assert spread[-1] < 0.5 * spread[0]


def test_stages_of_a_gradient_learner_are_its_steps():
    learner, found = fitted("maml")
    way = stages(learner, found)
    assert [stage.label for stage in way[:2]] == ["before any observation", f"1 of {found.steps} gradient steps"]
    assert way[-1].label == f"{found.steps} gradient steps"
    assert all(stage.samples is None for stage in way)
    torch.testing.assert_close(way[-1].system.scale, found.adapted.systems.scale)


def test_a_network_that_cannot_be_listed_is_named_in_a_note():
    learner, found = fitted("anil")

    class Sorted(type(found.adapted.systems.net)):
        def field_with(self, parameters, x):
            return super().field_with(parameters, x).sort(dim=-1).values.flip(-1)

    net = found.adapted.systems.net
    other = Sorted(domain=net.domain, width=net.head.in_features, depth=len(net.body)).double()
    systems = AdaptedSystems(
        other, {"head.weight": found.adapted.systems.parameters["head.weight"]}, torch.ones(1).double()
    )
    odd = dataclasses.replace(found, adapted=Adapted(systems), before=Adapted(systems), samples=None)
    offered = explore(odd, predict(found, 5.0), 5.0, learner)
    assert offered.section == ""
    assert "Sorted cannot be run in a browser, since the operation sort of PyTorch is not known" in offered.note


def test_the_oracle_has_one_stage():
    found = fit(Oracle(ParametricHamiltonian(SYSTEM)), seen(), friction="none")
    (only,) = stages(Oracle(ParametricHamiltonian(SYSTEM)), found)
    assert only.label == "all 12 observations"
    assert math.isfinite(only.system.scale.item())
