"""What the body of a network is given of a state."""

import dataclasses
import itertools
import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from meta_hamiltonian.config import check_arguments
from meta_hamiltonian.dynamics import Domain, Exclusion, Singularity

# The logarithm of the distance to a singularity whose place is not known is rounded off at this part of its radius: on
# the way to its place, states may come as near to it as they like.
_ROUNDED = 0.5


class Inputs(nn.Module):
    """u(x), and how gradients with respect to u become gradients with respect to x.

    Raw inputs are the coordinates in units of the box, from −1 to 1 inside it. Natural ones are what the domain says
    of its coordinates, in place of them or beside them:

    - angles are given as cosine and sine, so that the field is the same after a whole turn: those of the harmonics k·q
        of all angles together, k integer, to the second order, Σ|kᵢ| ≤ 2;
    - the logarithm q of a positive quantity is given beside the quantity itself, e^q;
    - for each exclusion, such as the surroundings of a singularity, there is the logarithm of the distance r to its
        centre too: a power of r is an exponential in it, which is smooth however close the singularity is;
    - on a lattice the body sees one particle and a neighbour at a time, (qᵢ, qⱼ, pᵢ), once for each neighbour j of
        each particle i, and the energy is the sum over these windows. Shared by all, the body costs the same whatever
        their number, and the energy is the same after a translation and after a reflection of the ring.

    A law may have unknowns that no linear head can follow. A member then has latents z, numbers of its own beside the
    state, and u(x; z) has two kinds of entries more. One is the logarithm of the distance to each singularity of the
    domain whose place differs from member to member; the first latents are that place. The other is z itself. States
    and latents are given together as (x, z), `[..., 2n + latents]`.

    - `windows`: how many the body is evaluated on for each state; 1 without a lattice.
    - `size`: numbers in each of them.
    - `lengths`, `momenta`: which of these numbers are coordinates in units of the box, and which of them tell momenta
        alone.
    - `scaled`: whether u is nothing but the coordinates in units of the box.
    - `latents`, `added`: how many latents there are, and how many entries at the end of u they bring.
    """

    half_widths: Tensor
    centre: Tensor
    harmonics: Tensor
    straight: Tensor
    of_lengths: Tensor
    of_angles: Tensor
    of_logarithms: Tensor
    middle: Tensor
    reach: Tensor
    chosen: Tensor

    def __init__(self, domain: Domain, kind: str | None = None):
        """**Arguments:**

        - `domain`: where the states live.
        - `kind`: `"raw"` or `"natural"`; None is raw.
        """
        super().__init__()
        check_arguments(type(self), inputs=kind)
        natural = kind == "natural"
        coordinates, n = domain.coordinates, domain.degrees_of_freedom
        self._chosen = None
        if natural and domain.lattice:
            neighbours = [(i, (i + step) % n) for step in (1, -1) for i in range(n)]
            self._chosen = torch.tensor([[i, j, n + i] for i, j in neighbours])
            coordinates = (coordinates[0], coordinates[0], coordinates[n])
        self.windows = 1 if self._chosen is None else len(self._chosen)
        angles = [i for i, c in enumerate(coordinates) if natural and c.kind == "angle"]
        lengths = [i for i in range(len(coordinates)) if i not in angles]
        self._angles, self._lengths = angles, lengths
        self._scales = [(coordinates[i].low, coordinates[i].high) for i in lengths]
        self._exclusions = list(domain.exclusions) if natural and self._chosen is None else []
        self._singularities = list(domain.singularities) if natural and self._chosen is None else []
        self._domain = domain
        self.lengths = list(range(len(lengths)))
        self._harmonics = _harmonics(len(angles))
        logarithms = [i for i in lengths if natural and coordinates[i].kind == "logarithm"]
        self._logarithms = logarithms
        self._positives = [(math.exp(coordinates[i].low), math.exp(coordinates[i].high)) for i in logarithms]
        self._first_positive = len(lengths) + 2 * len(self._harmonics)
        self._first_ball = self._first_positive + len(logarithms)
        first_momentum = len(coordinates) // 2 if self._chosen is None else 2
        told = [*enumerate(lengths), *enumerate(logarithms, self._first_positive)]
        self.momenta = [place for place, i in told if i >= first_momentum]
        self._state_dim = domain.state_dim
        self._local_dim = len(coordinates)
        self.latents = 0
        self._set_constants(torch.get_default_dtype(), None)

    @property
    def places(self) -> int:
        """How many numbers tell where the singularities are whose places differ from member to member."""
        return sum(len(singularity.centre) for singularity in self._singularities)

    @property
    def _balls(self) -> list[Exclusion | Singularity]:
        return [*self._exclusions, *(self._singularities if self.latents else [])]

    @property
    def distances(self) -> list[tuple[int, float]]:
        """Which inputs are logarithms of a distance to an exclusion, and what a unit of each adds to the logarithm."""
        ends = [_ends(self._domain, ball) for ball in self._exclusions]
        return [(self._first_ball + i, (high - low) / 2) for i, (low, high) in enumerate(ends)]

    @property
    def radii(self) -> list[tuple[int, float]]:
        """Those of [`distances`][] that are the sizes of a coordinate, such as a radius."""
        return [one for one, ball in zip(self.distances, self._exclusions, strict=True) if ball.coordinate is not None]

    @property
    def waves(self) -> range:
        """Which inputs are cosines and sines of angles."""
        return range(len(self.lengths), self._first_positive)

    @property
    def added(self) -> int:
        """How many entries of u latents bring."""
        return len(self._singularities) + self.latents if self.latents else 0

    @property
    def size(self) -> int:
        """Numbers in each window."""
        return self._first_ball + len(self._exclusions) + self.added

    @property
    def scaled(self) -> bool:
        """Whether u is nothing but the coordinates in units of the box."""
        natural = self._angles or self._logarithms or self._balls
        return not natural and self._chosen is None and not self.latents

    def latents_of(self, weight: Float[Tensor, "width inputs"] | None) -> int:
        """How many latents a first layer with these weights has: as many as now, unless it has other inputs."""
        if weight is None or weight.shape[1] == self.size:
            return self.latents
        return max(0, weight.shape[1] - (self.size - self.added) - len(self._singularities))

    def set_latents(self, count: int) -> None:
        """Gives members `count` latents."""
        self.latents = count
        self._set_constants(self.half_widths.dtype, self.half_widths.device)

    def _set_constants(self, dtype: torch.dtype, device: torch.device | None) -> None:
        def constant(name: str, values: object) -> None:
            self.register_buffer(name, torch.tensor(values, dtype=dtype, device=device), persistent=False)

        constant("half_widths", [(high - low) / 2 for low, high in self._scales])
        constant("centre", [(high + low) / 2 for low, high in self._scales])
        straight = torch.zeros(self._local_dim, self.size, dtype=dtype, device=device)
        for i, (place, half) in enumerate(zip(self._lengths, self.half_widths, strict=True)):
            straight[place, i] = 1 / half
        self.register_buffer("straight", straight, persistent=False)
        # Buffers too, since an index that is a list is sent to the device each time.
        self.register_buffer("of_lengths", torch.tensor(self._lengths, dtype=torch.long).to(device), persistent=False)
        self.register_buffer("of_angles", torch.tensor(self._angles, dtype=torch.long).to(device), persistent=False)
        if self._angles:
            constant("harmonics", self._harmonics)
        if self._logarithms:
            self.register_buffer("of_logarithms", torch.tensor(self._logarithms).to(device), persistent=False)
            constant("middle", [(high + low) / 2 for low, high in self._positives])
            constant("reach", [(high - low) / 2 for low, high in self._positives])
        moved = 0
        for i, ball in enumerate(self._balls):
            constant(f"matrix_{i}", ball.matrix)
            constant(f"ball_{i}", ball.centre)
            constant(f"ends_{i}", _ends(self._domain, ball))
            constant(f"rounded_{i}", (_ROUNDED * ball.radius) ** 2 if isinstance(ball, Singularity) else 0.0)
            if self.latents:  # where the latents put its centre: a uniform place has this standard deviation
                shift = torch.zeros(len(ball.centre), self.latents, dtype=dtype, device=device)
                if isinstance(ball, Singularity):
                    for row, reach in enumerate(ball.reach):
                        if moved < self.latents:
                            shift[row, moved] = reach / math.sqrt(3)
                        moved += 1
                self.register_buffer(f"shift_{i}", shift, persistent=False)
        if self._chosen is not None:
            self.register_buffer("chosen", self._chosen.to(device), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Inputs":
        # `double()` would keep the digits that float32 has of a constant.
        super()._apply(fn, recurse)
        self._set_constants(self.half_widths.dtype, self.half_widths.device)
        return self

    @torch.no_grad()
    def rescale_latents(
        self, layer: nn.Linear, mean: Float[Tensor, " latents"], scale: Float[Tensor, " latents"]
    ) -> None:
        """Puts mean + scale z in the place of z in a first layer; latents that are places stay what they are."""
        own = torch.arange(self.latents, device=mean.device) >= self.places
        weight = layer.weight[:, layer.in_features - self.latents :]
        layer.bias.add_(weight @ torch.where(own, mean, 0.0))
        weight.mul_(torch.where(own, scale, 1.0))

    def domain_of(self, z: Float[Tensor, " latents"]) -> Domain:
        """The domain without the surroundings of the singularities of a member with these latents.

        Where there are fewer latents than a place needs, it is not known.
        """
        if not self.latents or self.latents < self.places:
            return self._domain
        found, first = list(self._domain.exclusions), 0
        for one in self._singularities:
            moves = [
                reach / math.sqrt(3) * u
                for reach, u in zip(one.reach, z[first : first + len(one.reach)].tolist(), strict=True)
            ]
            place = tuple(centre + move for centre, move in zip(one.centre, moves, strict=True))
            found.append(Exclusion(one.matrix, place, one.radius))
            first += len(one.centre)
        return dataclasses.replace(self._domain, exclusions=tuple(found), singularities=())

    def forward(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch windows size"]:
        """u(x), a row for each window."""
        if self.scaled:
            return ((x - self.centre) / self.half_widths).unsqueeze(-2)
        x, z = self._parts(x)
        local = self._local(x)
        parts = [(local[..., self.of_lengths] - self.centre) / self.half_widths]
        if self._angles:
            angles = local[..., self.of_angles] @ self.harmonics.mT
            parts += [angles.cos(), angles.sin()]
        if self._logarithms:
            parts.append((local[..., self.of_logarithms].exp() - self.middle) / self.reach)
        for i in range(len(self._balls)):
            _, square = self._away(i, local, z)
            low, high = self.get_buffer(f"ends_{i}").unbind()
            parts.append((square.unsqueeze(-1).log() - low - high) / (high - low))
        if z is not None:
            parts.append(z.unsqueeze(-2).expand(*local.shape[:-1], self.latents))
        return torch.cat(parts, dim=-1)

    def slopes(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch windows local size"]:
        """∂u/∂x of each window, for the coordinates that it sees."""
        x, z = self._parts(x)
        local = self._local(x)
        # The slopes of coordinates that are given as they are; a copy, under vmap too.
        slopes = self.straight + local.new_zeros(*local.shape, self.size)
        m, k = len(self._lengths), len(self._harmonics)
        if self._angles:
            angles = (local[..., self.of_angles] @ self.harmonics.mT).unsqueeze(-2)
            bent = torch.cat([-angles.sin() * self.harmonics.mT, angles.cos() * self.harmonics.mT], dim=-1)
            slopes[..., self.of_angles, m : m + 2 * k] = bent
        if self._logarithms:
            positives = local[..., self.of_logarithms].exp() / self.reach
            slopes[..., self.of_logarithms, self._first_positive : self._first_ball] = positives.diag_embed()
        for i in range(len(self._balls)):
            away, square = self._away(i, local, z)
            low, high = self.get_buffer(f"ends_{i}").unbind()
            slopes[..., self._first_ball + i] = (
                2 * away @ self.get_buffer(f"matrix_{i}") / square[..., None] / (high - low)
            )
        return slopes

    def gathered(self, rows: Float[Tensor, "*batch windows local columns"]) -> Float[Tensor, "*batch state columns"]:
        """Sums the windows' rows, one for each of a window's own coordinates, to rows for all coordinates."""
        if self._chosen is None:
            return rows.squeeze(-3)
        total = rows.new_zeros(*rows.shape[:-3], self._state_dim, rows.shape[-1])
        return total.index_add(-2, self.chosen.flatten(), rows.flatten(-3, -2))

    def gathered_pairs(self, pairs: Float[Tensor, "*batch windows local local"]) -> Float[Tensor, "*batch state state"]:
        """Sums the windows' matrices, each for pairs of a window's own coordinates, to one for all coordinates."""
        if self._chosen is None:
            return pairs.squeeze(-3)
        total = pairs.new_zeros(*pairs.shape[:-3], self._state_dim**2)
        places = (self._state_dim * self.chosen.unsqueeze(-1) + self.chosen.unsqueeze(-2)).flatten()
        return total.index_add(-1, places, pairs.flatten(-3)).unflatten(-1, (self._state_dim, -1))

    def curvature(
        self, x: Float[Tensor, "*batch state"], gradient: Float[Tensor, "*batch windows size"]
    ) -> Float[Tensor, "*batch windows local local"]:
        """Σ gᵢ ∂²uᵢ/∂x² of each window, for the coordinates that it sees."""
        x, z = self._parts(x)
        local = self._local(x)
        m, k = len(self._lengths), len(self._harmonics)
        curvature = local.new_zeros(*local.shape, local.shape[-1])
        if self._angles:
            angles = local[..., self.of_angles] @ self.harmonics.mT
            bent = -angles.cos() * gradient[..., m : m + k] - angles.sin() * gradient[..., m + k : m + 2 * k]
            own = self.harmonics.mT @ (bent.unsqueeze(-1) * self.harmonics)
            places = self.of_angles
            curvature[..., places[:, None], places] = own
        if self._logarithms:
            places = self.of_logarithms
            of_positives = gradient[..., self._first_positive : self._first_ball]
            curvature[..., places, places] = of_positives * local[..., places].exp() / self.reach
        for i in range(len(self._balls)):
            matrix, (low, high) = self.get_buffer(f"matrix_{i}"), self.get_buffer(f"ends_{i}").unbind()
            away, square = self._away(i, local, z)
            square = square[..., None, None]
            along = (away @ matrix).unsqueeze(-1) / square
            own = 2 * gradient[..., self._first_ball + i, None, None] / (high - low)
            curvature = curvature + own * (matrix.mT @ matrix / square - 2 * along @ along.mT)
        return curvature

    def by_latents(
        self, x: Float[Tensor, "*batch inputs"], gradient: Float[Tensor, "*batch windows size"]
    ) -> tuple[Float[Tensor, "*batch windows size latents"], Float[Tensor, "*batch windows local latents"]]:
        """∂u/∂z, and Σ gᵢ ∂²uᵢ/∂x∂z for the coordinates that each window sees."""
        x, z = self._parts(x)
        assert z is not None
        local = self._local(x)
        place = self._first_ball
        moved = local.new_zeros(*local.shape[:-1], self.size, self.latents)
        moved[..., -self.latents :, :] = torch.eye(self.latents, dtype=x.dtype, device=x.device)
        mixed = local.new_zeros(*local.shape, self.latents)
        for i in range(len(self._balls)):
            matrix, shift = self.get_buffer(f"matrix_{i}"), self.get_buffer(f"shift_{i}")
            low, high = self.get_buffer(f"ends_{i}").unbind()
            away, square = self._away(i, local, z)
            of_z, of_x = away @ shift, (away @ matrix).unsqueeze(-1)
            moved[..., place + i, :] = -2 * of_z / square.unsqueeze(-1) / (high - low)
            square = square[..., None, None]
            own = 2 * gradient[..., place + i, None, None] / (high - low)
            mixed = mixed - own * (matrix.mT @ shift / square - 2 * of_x * of_z.unsqueeze(-2) / square**2)
        return moved, mixed

    def _local(self, x: Tensor) -> Tensor:
        return x.unsqueeze(-2) if self._chosen is None else x[..., self.chosen]

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The states, and the latents beside them."""
        if x.shape[-1] != self._state_dim + self.latents:
            raise ValueError(
                f"expected states of {self._state_dim} numbers and {self.latents} latents, got {x.shape[-1]} numbers"
            )
        return (x[..., : self._state_dim], x[..., self._state_dim :]) if self.latents else (x, None)

    def _away(self, i: int, x: Tensor, z: Tensor | None) -> tuple[Tensor, Tensor]:
        """The vector from the centre of a ball, and the square of its length."""
        away = x @ self.get_buffer(f"matrix_{i}").mT - self.get_buffer(f"ball_{i}")
        if z is not None:
            away = away - (z @ self.get_buffer(f"shift_{i}").mT).unsqueeze(-2)
        return away, away.square().sum(-1) + self.get_buffer(f"rounded_{i}")


def _harmonics(angles: int) -> list[list[float]]:
    """All integer k with 1 ≤ Σ|kᵢ| ≤ 2, one of each pair k and −k."""
    one = torch.eye(angles)
    alone = [factor * row for factor in (1, 2) for row in one]
    together = [one[i] + sign * one[j] for i, j in itertools.combinations(range(angles), 2) for sign in (1, -1)]
    return [k.tolist() for k in (*alone, *together)]


def _ends(domain: Domain, ball: Exclusion | Singularity) -> tuple[float, float]:
    """The logarithms of the smallest distance from the centre of a ball in the domain, and of the largest."""
    moves = ball.reach if isinstance(ball, Singularity) else (0.0,) * len(ball.centre)
    reach = [
        sum(abs(m) * h for m, h in zip(row, domain.half_widths, strict=True))
        + abs(c - sum(m * z for m, z in zip(row, domain.centre, strict=True)))
        + move
        for row, c, move in zip(ball.matrix, ball.centre, moves, strict=True)
    ]
    return math.log(ball.radius), math.log(max(math.hypot(*reach), 2 * ball.radius))


@torch.no_grad()
def widen(layer: nn.Linear, kept: int, before: int, added: int) -> None:
    """Gives a first layer other numbers of inputs from latents, in place: an optimizer goes on with the same parameter.

    **Arguments:**

    - `kept`: inputs that are no latents' and stay.
    - `before`, `added`: those of latents that there were, and that there will be; new ones get random weights, as
        PyTorch's linear layers have them.
    """
    weight = layer.weight
    more = torch.empty(len(weight), max(0, added - before), dtype=weight.dtype, device=weight.device)
    bound = 1 / math.sqrt(kept + added)
    layer.weight.data = torch.cat([weight[:, : kept + min(before, added)], more.uniform_(-bound, bound)], dim=1)
    layer.in_features = kept + added
