"""Kinetic energies whose mass matrices depend on the positions, as terms of an energy."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.dynamics import Domain, KineticEnergies
from meta_hamiltonian.dynamics.inertia import Factor, places_of
from meta_hamiltonian.models.inputs import Inputs


class Kinetics(nn.Module):
    """Sums of p·M(q)⁻¹p / 2 for several mass matrices, in terms of inputs u, and their derivatives, written out.

    Members of a family have mass matrices of their own. The inverse of each is no linear function of its unknowns, but
    few functions span the inverses of all: those of some matrices around the mean of the family.
    """

    def __init__(self, energies: KineticEnergies, domain: Domain, size: int | None = None):
        """**Arguments:**

        - `energies`: how the mass matrices of the family are distributed.
        - `domain`: where the states live; not on a lattice.
        - `size`: of u, which begins with the natural inputs of the domain; None is nothing else.
        """
        super().__init__()
        inputs = Inputs(domain, "natural").double()
        values = torch.tensor(energies.matrices, dtype=torch.float64)
        forms = torch.tensor([_forms(one.factor, inputs, domain) for one in energies.entries], dtype=torch.float64)
        n = domain.degrees_of_freedom
        others = (size or inputs.size) - inputs.size
        momenta = torch.zeros(n, inputs.size + 1, dtype=torch.float64)
        for i in range(n):
            place, centre, half = _length(n + i, inputs, domain)
            momenta[i, 0], momenta[i, place + 1] = centre, half
        self._constants = {
            # Coefficients of the entries in each matrix, and where the entries stand.
            "values": values,
            "places": places_of(energies.entries),
            # The factor of each entry is a product of two numbers that are linear in (1, u).
            "first": nn.functional.pad(forms[:, 0], (0, others)),
            "second": nn.functional.pad(forms[:, 1], (0, others)),
            "linear": nn.functional.pad(momenta, (0, others)),
            "mixture": torch.tensor(energies.sums, dtype=torch.float64).mT,
        }
        self.values: Tensor
        self.places: Tensor
        self.first: Tensor
        self.second: Tensor
        self.linear: Tensor
        self.mixture: Tensor
        self._set_constants(None)

    def __len__(self) -> int:
        return self.mixture.shape[1]

    def _set_constants(self, device: torch.device | None) -> None:
        for name, value in self._constants.items():
            self.register_buffer(name, value.to(device), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Kinetics":
        # In float64, whatever the network is in: energies that are nearly sums of others have no digits in float32.
        super()._apply(fn, recurse)
        self._set_constants(self.values.device)
        return self

    def _parts(self, u: Tensor) -> tuple[list[list[Tensor]], list[Tensor], Tensor, Tensor, Tensor]:
        """The entries of each matrix, the momenta, both numbers of each entry, and v = M⁻¹p for each matrix."""
        u = u.double()
        one = torch.cat([torch.ones_like(u[..., :1]), u], dim=-1)
        first, second = one @ self.first.mT, one @ self.second.mT
        p = (one @ self.linear.mT).unbind(-1)
        entries = (first * second).unsqueeze(-2) * self.values
        flat = entries @ self.places.flatten(1)
        n = len(p)
        matrix = [[flat[..., n * i + j] for j in range(n)] for i in range(n)]
        v = _solved(matrix, [[one.unsqueeze(-1).expand_as(flat[..., 0])] for one in p])
        return matrix, list(p), first, second, torch.stack([row[0] for row in v], dim=-1)

    def forward(self, u: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch terms"]:
        """The energies."""
        _, p, _, _, v = self._parts(u)
        energies = (v * torch.stack(p, dim=-1).unsqueeze(-2)).sum(-1) / 2 @ self.mixture
        return energies.to(u)

    def rates(self, u: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch terms size"]:
        """∂/∂u of each."""
        return (self.mixture.mT @ self._rates(u)).to(u)

    def _rates(self, u: Tensor) -> Tensor:
        """∂/∂u of the energy of each matrix."""
        _, _, first, second, v = self._parts(u)
        weights = self.values * self._doubled(v) / 2
        of_factors = (weights * second.unsqueeze(-2)) @ self.first + (weights * first.unsqueeze(-2)) @ self.second
        return (v @ self.linear - of_factors)[..., 1:]

    def _doubled(self, v: Tensor) -> Tensor:
        """v·P v for each entry, P its places."""
        both = (v.unsqueeze(-1) * v.unsqueeze(-2)).flatten(-2)
        return both @ self.places.flatten(1).mT

    def gradient(
        self, u: Float[Tensor, "*batch size"], c: Float[Tensor, "*tasks terms"]
    ) -> Float[Tensor, "*batch size"]:
        """∂/∂u of the sum of the terms with these coefficients, which broadcast over the batch."""
        return ((c.double() @ self.mixture.mT).unsqueeze(-1) * self._rates(u)).sum(-2).to(u)

    def hessian(
        self, u: Float[Tensor, "*batch size"], c: Float[Tensor, "*tasks terms"]
    ) -> Float[Tensor, "*batch size size"]:
        """∂²/∂u² of the same sum.

        Each energy p·M⁻¹p / 2 has L·M⁻¹L − v·(∂²M) v / 2 with the rates L = ∂p − (∂M) v.
        """
        matrix, p, first, second, v = self._parts(u)
        n = len(p)
        unit = [[torch.full_like(matrix[0][0], float(i == j)) for j in range(n)] for i in range(n)]
        inverse = torch.stack([torch.stack(row, dim=-1) for row in _solved(matrix, unit)], dim=-2)
        factors = second.unsqueeze(-1) * self.first + first.unsqueeze(-1) * self.second  # of each entry, by (1, u)
        along = (v @ self.places.flatten(0, 1).mT).unflatten(-1, (-1, n)) * self.values.unsqueeze(-1)
        slopes = (self.linear - along.mT @ factors.unsqueeze(-3))[..., 1:]
        weights = self.values * self._doubled(v) / 2
        bent = (self.first.unsqueeze(-1) * self.second.unsqueeze(-2))[:, 1:, 1:]
        bent = (weights @ (bent + bent.mT).flatten(1)).unflatten(-1, bent.shape[1:])
        each = slopes.mT @ inverse @ slopes - bent
        return ((c.double() @ self.mixture.mT)[..., None, None] * each).sum(-3).to(u)


def _length(i: int, inputs: Inputs, domain: Domain) -> tuple[int, float, float]:
    """Which input tells a coordinate, and the middle and the half-width by which it is scaled."""
    lengths = [j for j, one in enumerate(domain.coordinates) if one.kind != "angle"]
    return lengths.index(i), domain.centre[i], domain.half_widths[i]


def _forms(factor: Factor, inputs: Inputs, domain: Domain) -> list[list[float]]:
    """Two rows, which times (1, u) are numbers whose product is the factor."""
    one = [1.0] + [0.0] * inputs.size
    found = []
    for i, power in enumerate(factor.powers):
        place, centre, half = _length(i, inputs, domain) if power else (0, 0.0, 0.0)
        for _ in range(power):
            row = [0.0] * len(one)
            row[0], row[place + 1] = centre, half
            found.append(row)
    if any(factor.wave):
        angles = [i for i, c in enumerate(domain.coordinates) if c.kind == "angle"]
        wave = [float(factor.wave[i]) for i in angles]
        sign = 1.0 if wave in inputs.harmonics.tolist() else -1.0
        place = inputs.harmonics.tolist().index([sign * k for k in wave])
        count = len(inputs.harmonics)
        row = [0.0] * len(one)
        row[1 + inputs.waves.start + place + (count if factor.sine else 0)] = sign if factor.sine else 1.0
        found.append(row)
    assert len(found) <= 2, "a factor of a mass matrix has at most two parts"
    return [*found, one, one][:2]


def _solved(matrix: Sequence[Sequence[Tensor]], columns: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    """The solutions of a system whose matrix is positive, by elimination without pivots, number by number.

    The matrices are small and many; no operation is asked for that a compiled program does not have.
    """
    rows = [[*row, *right] for row, right in zip(matrix, columns, strict=True)]
    n = len(rows)
    for i in range(n):
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for k in range(n):
            if k != i:
                rows[k] = [value - rows[k][i] * above for value, above in zip(rows[k], rows[i], strict=True)]
    return [row[n:] for row in rows]
