"""An adapted system as a file for other programs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.models import Adapted

# How much a file may differ from the system that it was made of, relative to the largest value.
_ACCURACY = 1e-6
_CHECKED = 257


class ExportError(RuntimeError):
    """A file that does not compute what it should, or cannot be made. The message is one line."""


class Dynamics(nn.Module):
    """`H, dxdt = module(x)` for states x `[batch, 2n]` in float64; H is zero at its minimum over the domain.

    Friction is part of dx/dt, measured inputs are not: they are a recording's, not the system's.

    Where the network has no energy, `(dxdt,) = module(x)`.
    """

    def __init__(self, adapted: Adapted):
        super().__init__()
        systems = adapted.systems
        self.net = systems.net
        self.names = list(systems.parameters)
        self.forces = systems.forces
        for i, name in enumerate(self.names):
            self.register_buffer(f"adapted_{i}", systems.parameters[name])
        self.scale: Tensor
        self.lowest: Tensor
        self.register_buffer("scale", systems.scale)
        self.register_buffer("lowest", adapted.lowest_energy if adapted.has_energy else torch.zeros_like(systems.scale))

    def forward(self, x: Float[Tensor, "batch state"]) -> tuple[Tensor, ...]:
        """H `[batch]`, where there is one, and dx/dt `[batch, 2n]`."""
        own = {name: getattr(self, f"adapted_{i}") for i, name in enumerate(self.names)}
        x = self.net.domain.wrap(x)[None]
        field = self.scale * self.net.field_with(own, x)[0]
        if self.forces is not None and self.forces.kinds:
            dq, dp = field.chunk(2, dim=-1)
            field = torch.cat([dq, dp + self.forces(dq[None])[0]], dim=-1)
        if not self.net.has_energy:
            return (field,)
        return self.scale * self.net.energy_with(own, x)[0] - self.lowest, field


def export(adapted: Adapted, path: Path, said: Callable[[str, float], None] = lambda _what, _done: None) -> None:
    """Writes `path`, by `torch.export` where it ends in `.pt2`, as ONNX where it ends in `.onnx`, and checks it.

    **Arguments:** `said`: is told what is being done, and which part of the work is done, such as by a progress bar.

    **Raises:** [`ExportError`][] if what was written differs by more than 1e-6, or ONNX is not installed.
    """
    if path.suffix not in (".pt2", ".onnx"):
        raise ExportError(f"{path}: its ending is not known; use .pt2 (torch.export) or .onnx")
    x = adapted.domain.sobol(_CHECKED)
    module = Dynamics(adapted).requires_grad_(False).eval()
    batch = {"x": {0: torch.export.Dim("batch")}}
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        said("following the network", 0.1)
        program = _traced(module, x[:3], batch, path)
        said(f"writing {path.name}", 0.5)
        if path.suffix == ".pt2":
            with unfinished.open("wb") as file:
                torch.export.save(program, file)
            with unfinished.open("rb") as file:
                found = torch.export.load(file).module()(x)
        else:
            found = _through_onnx(program, x, unfinished)
        said("comparing it with the adapted system", 0.9)
        expected = {"H": adapted.energy(x)} if adapted.has_energy else {}
        expected |= {"dx/dt": adapted.field(x)}
        for (name, true), value in zip(expected.items(), found, strict=True):
            error = ((value - true).abs().max() / true.abs().max()).item()
            if not error <= _ACCURACY:
                raise ExportError(
                    f"{path}: {name} differs by {error:.1g}, more than {_ACCURACY:g}; nothing was written"
                )
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _traced(module: Dynamics, x: Tensor, shapes: Any, path: Path) -> torch.export.ExportedProgram:
    from torch._dynamo.exc import TorchDynamoException  # here: it takes a second

    try:
        return torch.export.export(module, (x,), dynamic_shapes=shapes)
    except (TorchDynamoException, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ExportError(f"{path}: torch.export cannot follow this {type(module.net).__name__}: {reason}") from error


def _through_onnx(program: torch.export.ExportedProgram, x: Tensor, file: Path) -> list[Tensor]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ExportError("ONNX is not installed: pip install 'meta-hamiltonian[onnx]'") from error
    written = torch.onnx.export(program, (), dynamo=True, verbose=False)
    assert written is not None
    written.save(str(file))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return [torch.from_numpy(value) for value in found]
