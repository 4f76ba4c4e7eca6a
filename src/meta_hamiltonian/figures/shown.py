"""The one test system that figures show: the truth, the observations and the predictions."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool

from meta_hamiltonian.basics.files import whole_file
from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.evaluation import Result, TestSet
from meta_hamiltonian.evaluation.results import USUAL_STEPS
from meta_hamiltonian.figures.planes import Plane, phase_planes

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
    """One system.

    - `domain`: where its states live, for axes and labels.
    - `field`: (dq/dt, dp/dt) of each degree of freedom on its plane of `planes`, `[planes, q, p, 2]`; not a number
        where the member may not be observed.
    - `t`, `orbit`, `energy`: the true orbit `[instants, 2n]` and the energy along it.
    - `x`, `dxdt`: what was observed, `[K, 2n]`.
    - `predictions`: for each K and number of gradient steps.
    """

    domain: Domain
    field: np.ndarray
    t: np.ndarray
    orbit: np.ndarray
    energy: np.ndarray
    x: np.ndarray
    dxdt: np.ndarray
    predictions: tuple[Prediction, ...]

    @classmethod
    def of(cls, results: Sequence[Result], test: TestSet, system: int) -> "Shown":
        """Collects a system from the results of an evaluation."""
        domain, parameters = test.system.domain, test.parameters[system]
        planes = phase_planes(domain, _GRID, test.orbit[0, system].numpy())
        x = torch.stack([plane.states for plane in planes])
        hidden = domain.excluded(x) | ~test.system.admits(x, parameters)

        def on_planes(field: torch.Tensor) -> np.ndarray:
            field = field.masked_fill(hidden[..., None], torch.nan)
            return np.stack([field[i][..., list(plane.axes)].numpy() for i, plane in enumerate(planes)])

        predictions = tuple(
            Prediction(
                result.shots,
                result.steps,
                on_planes(result.adapted[system].field(x)),
                result.errors.orbits[:, system].numpy(),
                test.system.hamiltonian(result.errors.orbits[:, system], parameters).numpy(),
                result.errors.field_mse[system].item(),
                result.errors.state_mse[system].item(),
                result.errors.energy_mse[system].item(),
            )
            for result in results
        )
        return cls(
            domain,
            on_planes(test.system.field(x, parameters)),
            test.t.numpy(),
            test.orbit[:, system].numpy(),
            test.system.hamiltonian(test.orbit[:, system], parameters).numpy(),
            test.support.x[system].numpy(),
            test.support.dxdt[system].numpy(),
            predictions,
        )

    def adapted_of_shots(self, shots: int) -> list[Prediction]:
        """The predictions without that of the unadapted network, which would set the scale of a figure's axes."""
        predictions = self.of_shots(shots)
        return [prediction for prediction in predictions if prediction.steps > 0] or predictions

    @functools.cached_property
    def planes(self) -> list[Plane]:
        """The [`phase_planes`][] through the initial state of the orbit."""
        return phase_planes(self.domain, self.field.shape[1], self.orbit[0])

    @property
    def hidden(self) -> Bool[np.ndarray, "planes across along"]:
        """Where on these planes the member may not be observed."""
        return np.isnan(self.field[..., 0])

    @property
    def usual(self) -> Prediction:
        """The prediction from the largest K, after 10 gradient steps or the largest number below."""
        of_shots = self.of_shots(max(prediction.shots for prediction in self.predictions))
        return max((p for p in of_shots if p.steps <= USUAL_STEPS), key=lambda p: p.steps, default=of_shots[0])

    def is_of_the_same_system(self, other: "Shown") -> bool:
        """Whether both show the same member of the same family."""
        return self.field.shape == other.field.shape and bool(np.array_equal(self.orbit, other.orbit))

    def of_shots(self, shots: int) -> list[Prediction]:
        """The predictions from K = `shots` points, by gradient steps."""
        return [prediction for prediction in self.predictions if prediction.shots == shots]

    def save(self, path: Path) -> None:
        """Writes an `.npz` file, from which a sweep draws all of its jobs side by side."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        numbers = []
        for i, prediction in enumerate(self.predictions):
            values = dataclasses.asdict(prediction)
            # Single precision is enough to be drawn, but for an energy that is conserved to ten digits.
            arrays[f"energy_{i}"] = values.pop("energy")
            for name in ("field", "orbit"):
                arrays[f"{name}_{i}"] = values.pop(name).astype(np.float32)
            numbers.append(values)
        words = {"domain": json.dumps(self.domain.settings()), "predictions": json.dumps(numbers)}
        with whole_file(path) as unfinished, unfinished.open("wb") as file:
            np.savez_compressed(file, **words, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Shown":
        """Reads a system that [`save`][] has written."""
        with np.load(path) as file:
            predictions = tuple(
                Prediction(**numbers, **{name: file[f"{name}_{i}"] for name in ("field", "orbit", "energy")})
                for i, numbers in enumerate(json.loads(str(file["predictions"])))
            )
            arrays = {name: file[name] for name in _ARRAYS}
        domain = cls.load_domain(path)
        return cls(domain=domain, **arrays, predictions=predictions)

    @staticmethod
    def load_domain(path: Path) -> Domain:
        """The domain alone, without reading the rest of the file."""
        with np.load(path) as file:
            return Domain.from_settings(json.loads(str(file["domain"])))


_ARRAYS = ("field", "t", "orbit", "energy", "x", "dxdt")
