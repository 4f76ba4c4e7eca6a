"""How momenta follow from velocities: the mass matrix M(q) of p = M(q) dq/dt."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

# Mass matrices so many standard deviations from the mean of a family, at most so many, span those of its members.
# Noise hides what more of them would tell.
_FEW, _MANY, _MOST = (1.0, 2.0), (0.5, 1.0, 1.5, 2.0, 2.5), 80
# Directions in which members differ by this part are followed; one in which no mass matrix is positive is followed by
# half as much, so many times.
_DIRECTIONS, _SHORTER = 1e-3, 8
# Energies that are sums of others but for this part of the error with which matrices are known, within these limits,
# are not needed.
_RESOLVED, _LEAST_RESOLVED, _MOST_RESOLVED = 0.1, 1e-8, 1e-4
# The smallest eigenvalue of a mass matrix may fall to this part of what it typically is.
_LEAST = 1e-3


class Factor(NamedTuple):
    """A function of the positions, q₁^a₁ q₂^a₂ … cos(k·q), or with the sine.

    - `powers`: a, one integer for each position.
    - `wave`: k, likewise; where all are 0 the cosine is 1.
    - `sine`: whether it is the sine.
    """

    powers: tuple[int, ...]
    wave: tuple[int, ...]
    sine: bool = False

    @classmethod
    def one(cls, n: int) -> "Factor":
        """The constant 1 of n positions."""
        return cls((0,) * n, (0,) * n)

    @property
    def constant(self) -> bool:
        """Whether it does not depend on the positions."""
        return not any(self.powers) and not any(self.wave)

    def words(self, names: Sequence[str]) -> str:
        """Such as `r² cos(theta)`; empty for 1."""
        parts = [
            f"{name}{'' if power == 1 else f'^{power}'}"
            for name, power in zip(names, self.powers, strict=True)
            if power
        ]
        if any(self.wave):
            signs = [
                f"{'-' if k < 0 else '+'} {'' if abs(k) == 1 else f'{abs(k)} '}{name}"
                for name, k in zip(names, self.wave, strict=True)
                if k
            ]
            parts.append(f"{'sin' if self.sine else 'cos'}({' '.join(signs).removeprefix('+ ')})")
        return " ".join(parts)


class Factors:
    """Several functions of the positions, and their derivatives."""

    def __init__(self, factors: Sequence[Factor]):
        """**Arguments:** `factors`: at least one, all of as many positions."""
        self.powers = torch.tensor([one.powers for one in factors], dtype=torch.float64)
        self.waves = torch.tensor([one.wave for one in factors], dtype=torch.float64)
        self.sines = torch.tensor([one.sine for one in factors])

    def _parts(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The power of each position, the rates of these, and the wave and its rate."""
        powers, x = self.powers.to(q), q.unsqueeze(-2)
        raised = x**powers
        rates = powers * x ** torch.where(powers == 0, torch.zeros_like(powers), powers - 1)
        angle = q @ self.waves.to(q).mT
        sines = self.sines.to(q.device)
        wave = torch.where(sines, angle.sin(), angle.cos())
        return raised, rates, wave, torch.where(sines, angle.cos(), -angle.sin())

    def __call__(self, q: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch factors"]:
        """The functions at these positions."""
        raised, _, wave, _ = self._parts(q)
        return raised.prod(-1) * wave

    def gradient(self, q: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch factors n"]:
        """Their derivatives with respect to each position."""
        raised, rates, wave, slope = self._parts(q)
        n = q.shape[-1]
        others = [torch.cat([raised[..., :i], raised[..., i + 1 :]], dim=-1).prod(-1) for i in range(n)]
        along = torch.stack(others, dim=-1) * rates
        return along * wave.unsqueeze(-1) + (raised.prod(-1) * slope).unsqueeze(-1) * self.waves.to(q)


class Entry(NamedTuple):
    """A term of a mass matrix: a factor in row `i` and column `j`, and the other way round."""

    i: int
    j: int
    factor: Factor


@dataclasses.dataclass(frozen=True)
class Inertia:
    """The mass matrix M(q) = Σ cₖ Fₖ(q) of one system, for p = M(q) dq/dt.

    - `entries`: where each term stands, and its factor.
    - `values`: cₖ.
    """

    entries: tuple[Entry, ...]
    values: tuple[float, ...]

    @classmethod
    def of(cls, masses: "float | Sequence[float] | Inertia", n: int) -> "Inertia":
        """The constant one of n degrees of freedom: one mass for all of them, or one for each; one that there is."""
        if isinstance(masses, Inertia):
            return masses
        each = tuple(masses) if isinstance(masses, Sequence) else (masses,) * n
        one = Factor.one(len(each))
        return cls(tuple(Entry(i, i, one) for i in range(len(each))), tuple(float(m) for m in each))

    @functools.cached_property
    def _factors(self) -> Factors:
        return Factors([entry.factor for entry in self.entries])

    @functools.cached_property
    def _places(self) -> Float[Tensor, "terms n n"]:
        """Where each term stands, times its value."""
        return torch.tensor(self.values, dtype=torch.float64)[:, None, None] * places_of(self.entries)

    @property
    def constant(self) -> bool:
        """Whether it does not depend on the positions."""
        return all(entry.factor.constant for entry in self.entries)

    def matrix(self, q: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n n"]:
        """M(q)."""
        return (self._factors(q) @ self._places.to(q).flatten(1)).unflatten(-1, (q.shape[-1], -1))

    def matrix_rate(self, q: Float[Tensor, "*batch n"], v: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n n"]:
        """dM/dt along a motion with these velocities."""
        rates = (self._factors.gradient(q) @ v.unsqueeze(-1))[..., 0]
        return (rates @ self._places.to(q).flatten(1)).unflatten(-1, (q.shape[-1], -1))

    def momenta(self, q: Float[Tensor, "*batch n"], v: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """p = M(q) v."""
        return _times(self.matrix(q), v)

    def velocities(self, q: Float[Tensor, "*batch n"], p: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """v with p = M(q) v."""
        return torch.linalg.solve(self.matrix(q), p)

    def momentum_rates(
        self, q: Float[Tensor, "*batch n"], v: Float[Tensor, "*batch n"], a: Float[Tensor, "*batch n"]
    ) -> Float[Tensor, "*batch n"]:
        """dp/dt for velocities v and accelerations a."""
        return _times(self.matrix(q), a) + _times(self.matrix_rate(q, v), v)

    def accelerations(
        self, q: Float[Tensor, "*batch n"], v: Float[Tensor, "*batch n"], dp: Float[Tensor, "*batch n"]
    ) -> Float[Tensor, "*batch n"]:
        """dv/dt for velocities v and rates of the momenta."""
        return torch.linalg.solve(self.matrix(q), dp - _times(self.matrix_rate(q, v), v))

    def energy_gradient(
        self, q: Float[Tensor, "*batch n"], p: Float[Tensor, "*batch n"]
    ) -> Float[Tensor, "*batch state"]:
        """The derivatives of p·M(q)⁻¹p / 2 with respect to q and p."""
        v = self.velocities(q, p)
        doubled = torch.einsum("...i,kij,...j->...k", v, self._places.to(q), v)
        of_q = -(doubled.unsqueeze(-1) * self._factors.gradient(q)).sum(-2) / 2
        return torch.cat([of_q, v], dim=-1)

    def errors(self, q: Float[Tensor, "*batch n"], error: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """The standard deviations of momenta whose velocities have these, independent of each other."""
        return _times(self.matrix(q).square(), error.square()).sqrt()

    def words(self, names: Sequence[str]) -> str:
        """Each entry of the matrix, such as `M11 = 1.2, M12 = 0.5 cos(q1 - q2)`."""
        found: dict[str, str] = {}
        for entry, value in zip(self.entries, self.values, strict=True):
            place = "M" if len(names) == 1 else f"M{entry.i + 1}{entry.j + 1}"
            term = f"{abs(value):.4g} {entry.factor.words(names)}".strip()
            sign = "-" if value < 0 else "+"
            found[place] = f"{found[place]} {sign} {term}" if place in found else f"{'-' * (value < 0)}{term}"
        return ", ".join(f"{place} = {said}" for place, said in sorted(found.items()))


@dataclasses.dataclass(frozen=True)
class KineticEnergies:
    """How the mass matrices of a family's members are distributed, in units of their mean.

    The Euler–Lagrange equations of L = ½ v·M(q) v − V(q) are linear in the coefficients θ of M and of V, which are
    known up to a factor. It is fixed by c·θ = 1, where c·θ is the mean of the trace of M over the family, in units of
    its velocities. Where momenta were recorded, M(q) v − p = 0 is linear in the coefficients of M and in that of p,
    and c·θ is the latter.

    - `entries`, `potential`: the terms of M and of V.
    - `fixed`: c, 0 for terms of V.
    - `mean`, `factor`: θ is normal with this mean and the covariance F Fᵀ, before a member is observed.
    - `error`: the part of what tells them that the matrices of the members leave unexplained.
    - `matrices`: coefficients of some mass matrices, whose kinetic energies span those of the members, see `spanned`.
    - `sums`: coefficients of these energies in sums whose gradients have the size 1 and are orthogonal.
    """

    entries: tuple[Entry, ...]
    potential: tuple[Factor, ...]
    fixed: tuple[float, ...]
    mean: tuple[float, ...]
    factor: tuple[tuple[float, ...], ...]
    error: float = 1.0
    matrices: tuple[tuple[float, ...], ...] = ()
    sums: tuple[tuple[float, ...], ...] = ()

    @property
    def recorded(self) -> bool:
        """Whether momenta were recorded, from which the mass matrices are known."""
        return not any(self.fixed[: len(self.entries)])

    def settings(self) -> dict[str, Any]:
        """These as plain values, for a checkpoint."""

        def plain(factor: Factor) -> list[Any]:
            return [list(factor.powers), list(factor.wave), factor.sine]

        return {
            "entries": [[entry.i, entry.j, plain(entry.factor)] for entry in self.entries],
            "potential": [plain(factor) for factor in self.potential],
            "fixed": list(self.fixed),
            "mean": list(self.mean),
            "factor": [list(row) for row in self.factor],
            "error": self.error,
            "matrices": [list(row) for row in self.matrices],
            "sums": [list(row) for row in self.sums],
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "KineticEnergies":
        """The ones that a checkpoint keeps as plain values."""

        def factor(kept: Any) -> Factor:
            powers, wave, sine = kept
            return Factor(tuple(powers), tuple(wave), bool(sine))

        return cls(
            tuple(Entry(i, j, factor(kept)) for i, j, kept in settings["entries"]),
            tuple(map(factor, settings["potential"])),
            tuple(settings["fixed"]),
            tuple(settings["mean"]),
            tuple(map(tuple, settings["factor"])),
            settings["error"],
            tuple(map(tuple, settings["matrices"])),
            tuple(map(tuple, settings["sums"])),
        )

    def inertia(self, theta: Float[Tensor, " terms"]) -> Inertia:
        """The mass matrix of a member with these coefficients."""
        return Inertia(self.entries, tuple(theta[: len(self.entries)].tolist()))

    @property
    def typical(self) -> Inertia:
        """That of the mean."""
        return self.inertia(torch.tensor(self.mean))

    def spanned(self, x: Float[Tensor, "states state"], sizes: Float[Tensor, " state"]) -> "KineticEnergies | None":
        """The same with matrices whose kinetic energies span those of the members.

        They are those of the mean and of some members around it, along the axes of the distribution and between two of
        them, as far as these change the matrix and not only its size, by which the energy is divided. Sums of their
        energies that hardly differ from 0 are left out.

        **Arguments:**

        - `x`, `sizes`: states all over the domain, and the sizes of its coordinates.

        **Returns:** None where the matrix of the mean is not positive at all of the states.
        """
        count, n = len(self.entries), x.shape[1] // 2
        q, p = x[:, :n], x[:, n:]
        mean = torch.tensor(self.mean, dtype=torch.float64)[:count]
        factor = torch.tensor(self.factor, dtype=torch.float64)[:count]

        def smallest(theta: Tensor) -> Tensor:
            return torch.linalg.eigvalsh(self.inertia(theta).matrix(q))[:, 0]

        typical = smallest(mean)
        least = _LEAST * typical.median()
        if not (typical > least).all():
            return None
        scales = mean.abs()
        along = (mean / scales) / (mean / scales).norm()
        relative = factor / scales[:, None]
        relative = relative - along[:, None] * (along @ relative)
        axes, lengths, _ = torch.linalg.svd(relative, full_matrices=False)
        axes = (axes * lengths)[:, lengths > _DIRECTIONS * max(1.0, lengths.max().item())]
        rows = [torch.zeros(count, dtype=torch.float64)]
        resolved = min(max(_RESOLVED * self.error, _LEAST_RESOLVED), _MOST_RESOLVED)
        deviations = _MANY if resolved < _MOST_RESOLVED else _FEW
        rows += [sign * s * axis for s in deviations for axis in axes.mT for sign in (1, -1)]
        pairs = itertools.combinations(axes.mT, 2)
        rows += [a * one + b * other for one, other in pairs for a in (1, -1) for b in (1, -1)]
        found: list[Inertia] = []
        for row in rows[:_MOST]:
            thetas = (mean + scales * row / 2**shorter for shorter in range(_SHORTER))
            found += [self.inertia(theta) for theta in thetas if (smallest(theta) > least).all()][:1]
        gradients = torch.stack([(one.energy_gradient(q, p) * sizes).flatten() for one in found])
        combined, lengths, _ = torch.linalg.svd(gradients, full_matrices=False)
        kept = lengths > resolved * lengths[0]
        sums = (combined[:, kept] / lengths[kept] * gradients.shape[1] ** 0.5).mT
        return dataclasses.replace(
            self,
            matrices=tuple(one.values for one in found),
            sums=tuple(map(tuple, sums.tolist())),
        )


def places_of(entries: Sequence[Entry]) -> Float[Tensor, "terms n n"]:
    """A 1 in the two places of each term."""
    n = len(entries[0].factor.powers)
    places = torch.zeros(len(entries), n, n, dtype=torch.float64)
    for k, (i, j, _) in enumerate(entries):
        places[k, i, j] = places[k, j, i] = 1.0
    return places


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1))[..., 0]
