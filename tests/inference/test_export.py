"""Adapted systems as files for other programs."""

import onnxruntime
import pytest
import torch
from observed import SYSTEM, learner, points

from meta_hamiltonian.inference.export import ExportError, export
from meta_hamiltonian.learners import ANIL, Oracle
from meta_hamiltonian.models import HamiltonianNetwork, ParametricHamiltonian, VectorFieldNetwork
from meta_hamiltonian.systems import Domain


def adapted_by(some):
    seen = points()
    return some.adapt(torch.from_numpy(seen.x), torch.from_numpy(seen.dxdt))


def by_torch(file, x):
    return torch.export.load(file).module()(x)


def by_onnx(file, x):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(value) for value in session.run(None, {"x": x.numpy()})]


@pytest.mark.parametrize(("ending", "read"), [("pt2", by_torch), ("onnx", by_onnx)])
def test_the_file_computes_what_the_system_does(tmp_path, ending, read):
    adapted = adapted_by(learner())
    export(adapted, tmp_path / f"system.{ending}")
    x = torch.cat([SYSTEM.domain.sobol(40), SYSTEM.domain.sobol(5) + torch.tensor([8 * torch.pi, 0])])  # and turns away
    energy, field = read(tmp_path / f"system.{ending}", x)
    torch.testing.assert_close(energy, adapted.energy(x))
    torch.testing.assert_close(field, adapted.field(x))


@pytest.mark.parametrize("ending", ["pt2", "onnx"])
def test_a_network_without_energy_is_its_field_alone(tmp_path, ending):
    torch.manual_seed(0)
    net = VectorFieldNetwork(width=8, depth=2, domain=SYSTEM.domain)
    adapted = adapted_by(ANIL(net, scale="task"))
    assert not adapted.has_energy
    export(adapted, tmp_path / f"system.{ending}")
    x = SYSTEM.domain.sobol(9)
    (field,) = (by_torch if ending == "pt2" else by_onnx)(tmp_path / f"system.{ending}", x)
    torch.testing.assert_close(field, adapted.field(x))


def test_several_degrees_of_freedom_are_exported_too(tmp_path):
    torch.manual_seed(0)
    four = Domain.box((1.0, 2.0, 1.0, 2.0))
    x = four.sobol(30)
    adapted = ANIL(HamiltonianNetwork(width=8, depth=2, domain=four)).adapt(x, x)
    export(adapted, tmp_path / "system.pt2")
    energy, field = by_torch(tmp_path / "system.pt2", x)
    torch.testing.assert_close(energy, adapted.energy(x))
    torch.testing.assert_close(field, adapted.field(x))


def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(tmp_path):
    adapted = adapted_by(Oracle(ParametricHamiltonian(SYSTEM)))
    with pytest.raises(ExportError, match=r"torch\.export cannot follow this ParametricHamiltonian") as error:
        export(adapted, tmp_path / "system.pt2")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_an_unknown_ending_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(ExportError, match=r"use \.pt2"):
        export(adapted_by(learner()), tmp_path / "system.txt")
    assert not list(tmp_path.iterdir())
