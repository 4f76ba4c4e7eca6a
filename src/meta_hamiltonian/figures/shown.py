"""The one test system that figures show: the truth, what was observed, and what was predicted."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from meta_hamiltonian.evaluation import Result, TestSet, state_grid
from meta_hamiltonian.files import whole_file

_GRID = 41  # points an axis, for streamlines


@dataclasses.dataclass(frozen=True)
class Prediction:
    """After `steps` gradient steps on K = `shots` points: field, orbit, true energy along it, and their errors."""

    shots: int
    steps: int
    field: np.ndarray
    orbit: np.ndarray
    energy: np.ndarray
    field_mse: float
    state_mse: float
    energy_mse: float


@dataclasses.dataclass(frozen=True)
class Shown:
    """A system of one degree of freedom; fields are on the grid of `q` and `p`, orbits at the instants `t`."""

    q: np.ndarray
    p: np.ndarray
    field: np.ndarray
    t: np.ndarray
    orbit: np.ndarray
    energy: np.ndarray
    x: np.ndarray
    dxdt: np.ndarray
    predictions: tuple[Prediction, ...]

    @classmethod
    def of(cls, results: Sequence[Result], test: TestSet, system: int) -> "Shown":
        """Collects it from the results of an evaluation."""
        x = state_grid(test.system, _GRID)
        grid = x.reshape(_GRID, _GRID, 2)
        parameters = test.parameters[system]

        def on_grid(field: object) -> np.ndarray:
            return np.asarray(field).reshape(_GRID, _GRID, 2)

        predictions = tuple(
            Prediction(
                result.shots,
                result.steps,
                on_grid(result.adapted[system].field(x)),
                result.errors.orbits[:, system].numpy(),
                test.system.hamiltonian(result.errors.orbits[:, system], parameters).numpy(),
                result.errors.field_mse[system].item(),
                result.errors.state_mse[system].item(),
                result.errors.energy_mse[system].item(),
            )
            for result in results
        )
        return cls(
            grid[:, 0, 0].numpy(),
            grid[0, :, 1].numpy(),
            on_grid(test.system.field(x, parameters)),
            test.t.numpy(),
            test.orbit[:, system].numpy(),
            test.system.hamiltonian(test.orbit[:, system], parameters).numpy(),
            test.support.x[system].numpy(),
            test.support.dxdt[system].numpy(),
            predictions,
        )

    def of_shots(self, shots: int) -> list[Prediction]:
        """The predictions from K = `shots` points, by gradient steps."""
        return [prediction for prediction in self.predictions if prediction.shots == shots]

    def save(self, path: Path) -> None:
        """Writes an `.npz` file, from which a sweep draws all of its jobs side by side."""
        arrays = {name: getattr(self, name) for name in ("q", "p", "field", "t", "orbit", "energy", "x", "dxdt")}
        numbers = []
        for i, prediction in enumerate(self.predictions):
            values = dataclasses.asdict(prediction)
            # Single precision is enough to be drawn, but for an energy that is conserved to ten digits.
            arrays[f"energy_{i}"] = values.pop("energy")
            for name in ("field", "orbit"):
                arrays[f"{name}_{i}"] = values.pop(name).astype(np.float32)
            numbers.append(values)
        with whole_file(path) as unfinished, unfinished.open("wb") as file:
            np.savez_compressed(file, predictions=json.dumps(numbers), **arrays)

    @classmethod
    def load(cls, path: Path) -> "Shown":
        """Reads it back."""
        with np.load(path) as file:
            predictions = tuple(
                Prediction(**numbers, **{name: file[f"{name}_{i}"] for name in ("field", "orbit", "energy")})
                for i, numbers in enumerate(json.loads(str(file["predictions"])))
            )
            arrays = {name: file[name] for name in ("q", "p", "field", "t", "orbit", "energy", "x", "dxdt")}
        return cls(**arrays, predictions=predictions)
