"""The Hamiltonian network for a head that is solved for."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from meta_hamiltonian.basics.registry import register
from meta_hamiltonian.config import check_arguments
from meta_hamiltonian.dynamics import Domain, hamiltonian_field
from meta_hamiltonian.models.activations import ACTIVATIONS
from meta_hamiltonian.models.inputs import Inputs, widen
from meta_hamiltonian.models.kinetics import Kinetics
from meta_hamiltonian.models.monomials import Exponentials, Monomials, Quotients, higher_terms
from meta_hamiltonian.models.network import FieldNetwork

# The initial weights and phases are so many times those of PyTorch's linear layers: with these a tanh is almost linear
# over the box, and training spends its first hundreds of steps on bending it.
_BENT = 3.0
# Products of momenta are factors of hidden units for at most so many degrees of freedom.
_FEW_MOMENTA = 3
# Products of lengths are features up to this number of them; beyond it, only the squares are.
_MOST_PRODUCTS = 200
# There are at most so many products of three and more lengths, and of lengths and waves.
_MOST_HIGHER = 80
# Powers of the distance to a centre, beside its logarithm and its square; a radius is an input itself.
_INVERSE = (-2, -1)
_POWERS = (*_INVERSE, 1)


@register
class NaturalNetwork(FieldNetwork):
    """H_θ(x) = w · φ(u(x)), where φ has one hidden layer of tanh units and the terms that most energies have:

    - units that see all of u;
    - units that see the positions alone, each times 1, pᵢ and pᵢ pⱼ: the energy of a mechanical system is a quadratic
        polynomial of its momenta whose coefficients depend on the positions (for more than three degrees of freedom
        without a lattice, times 1 alone);
    - u itself, and the products of its lengths, so that linear and quadratic terms need no hidden units; for recorded
        families also those of three and four lengths and those with waves ([`higher_terms`][]), and 1/r², 1/r and r for
        each distance r to an exclusion; where r is a coordinate, also pᵢ pⱼ/r² and pᵢ pⱼ/r, such as the energy of a
        rotation; and where the mass matrices of recorded members depend on the positions, sums of their kinetic
        energies ([`Kinetics`][]).

    [`Inputs`][] says what u is. All derivatives are written out, since a second-order step needs ∂f/∂θ of every point.

    ??? cite "Reference"

        Goldstein, Poole, Safko: Classical mechanics, 3rd edition, section 8.1 (the energy as a function of momenta).
    """

    has_energy = True
    takes_latents = True

    def __init__(
        self,
        state_dim: int = 2,
        width: int = 48,
        domain: Domain | None = None,
        inputs: str = "natural",
        degree: int = 2,
    ):
        """**Arguments:**

        - `state_dim`: 2n, the canonical coordinates (q, p).
        - `width`: hidden units; half of them see everything, a third the positions.
        - `domain`: where the states live; None is a box of half-widths 1.
        - `inputs`: raw or natural, see [`Inputs`][].
        - `degree`: the highest number of lengths in a product, at least 2; where there are many lengths, less. Above 2,
            there are powers of distances, too.
        """
        super().__init__(state_dim, domain=domain)
        check_arguments(type(self), width=width, degree=degree)
        self.activation = ACTIVATIONS["tanh"]
        self.inputs = Inputs(self.domain, inputs)
        size, momenta = self.inputs.size, self.inputs.momenta
        pairs = list(itertools.combinations_with_replacement(range(len(momenta)), 2))
        few = len(momenta) <= _FEW_MOMENTA
        factors = [(), *((i,) for i in range(len(momenta))), *pairs] if few else [()]
        products = list(itertools.combinations_with_replacement(self.inputs.lengths, 2))
        if len(products) > _MOST_PRODUCTS:
            products = [(i, i) for i in self.inputs.lengths]
        self._products = products
        positions = [i for i in self.inputs.lengths if i not in momenta]
        lengths_of_momenta = [i for i in self.inputs.lengths if i in momenta]
        self._higher = higher_terms(positions, lengths_of_momenta, self.inputs.waves, degree, _MOST_HIGHER)
        distances, radii = (self.inputs.distances, self.inputs.radii) if degree > 2 else ([], [])
        self._powers = [(one[0], k * one[1]) for one in distances for k in (_INVERSE if one in radii else _POWERS)]
        self.takes_kinetic_energies = self.inputs.windows == 1 and inputs == "natural"
        kinetic = self.domain.kinetic if self.takes_kinetic_energies else None
        self._kinetic = None if kinetic is None or kinetic.typical.constant or not kinetic.sums else kinetic
        energies = range(0 if self._kinetic is None else len(self._kinetic.sums))
        of_momenta = [*itertools.combinations_with_replacement(momenta, 2), *((i,) for i in momenta)] if few else []
        self._quotients = [
            (factors, (place, k * unit)) for place, unit in radii for k in _INVERSE for factors in of_momenta
        ]
        self.body = nn.Linear(size, max(1, width // 2))
        self.coefficients = nn.Linear(size - len(momenta), max(1, width // 3))
        with torch.no_grad():
            for value in (*self.body.parameters(), *self.coefficients.parameters()):
                value *= _BENT
        units = self.body.out_features, self.coefficients.out_features * len(factors)
        more = self._powers, energies, self._higher, self._quotients
        self._parts = (*units, size, len(products), *filter(None, map(len, more)))
        self.head = nn.Linear(sum(self._parts), 1, bias=False)
        # pᵢ and pᵢ pⱼ as tensors: factor μ is constant + linear · p + p · bilinear p / 2.
        linear = torch.tensor([[float(f == (i,)) for i in range(len(momenta))] for f in factors])
        bilinear = torch.zeros(len(factors), len(momenta), len(momenta))
        for row, factor in enumerate(factors):
            if len(factor) == 2:
                bilinear[row, factor[0], factor[1]] += 1
                bilinear[row, factor[1], factor[0]] += 1
        self.constant: Tensor
        self.linear: Tensor
        self.bilinear: Tensor
        self.first: Tensor
        self.second: Tensor
        self.pairs: Tensor
        self.momenta: Tensor
        self.positions: Tensor
        self.places: Tensor
        self.register_buffer("constant", torch.tensor([float(not f) for f in factors]), persistent=False)
        self.register_buffer("linear", linear, persistent=False)
        self.register_buffer("bilinear", bilinear, persistent=False)
        self.register_buffer("momenta", torch.tensor(momenta), persistent=False)
        first, second = map(list, zip(*products, strict=True))
        self.register_buffer("first", torch.tensor(first), persistent=False)
        self.register_buffer("second", torch.tensor(second), persistent=False)
        self._set_places()

    def _set_places(self) -> None:
        """The places of positions, and of products, among the inputs."""
        size, momenta, like = self.inputs.size, self.inputs.momenta, self.constant
        positions = [i for i in range(size) if i not in momenta]
        # Buffers, since an index that is a list is sent to the device each time; the places are those of all inputs
        # among the positions and then the momenta.
        order = [*positions, *momenta]
        places = torch.tensor([order.index(i) for i in range(size)])
        self.register_buffer("positions", torch.tensor(positions, device=like.device), persistent=False)
        self.register_buffer("places", places.to(like.device), persistent=False)
        # The products uᵢ uⱼ: the matrix of second derivatives of each in a row.
        first, second = map(list, zip(*self._products, strict=True))
        outer = torch.eye(size)[first, :, None] * torch.eye(size)[second, None, :]
        self.register_buffer("pairs", (outer + outer.mT).flatten(1).to(like), persistent=False)
        more = [Exponentials(self._powers, size)] if self._powers else []
        more += [] if self._kinetic is None else [Kinetics(self._kinetic, self.domain, size)]
        more += [Monomials(self._higher, size)] if self._higher else []
        more += [Quotients(self._quotients, size)] if self._quotients else []
        self.more: Iterable[Exponentials | Kinetics | Monomials | Quotients]
        self.more = nn.ModuleList(more).to(like)  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def latents(self) -> int:
        """How many latents the features depend on, beside the state."""
        return self.inputs.latents

    def rescale_latents(self, mean: Float[Tensor, " latents"], scale: Float[Tensor, " latents"]) -> None:
        """Puts mean + scale z in the place of z, in the weights of both kinds of units."""
        for layer in (self.body, self.coefficients):
            self.inputs.rescale_latents(layer, mean, scale)

    def domain_of(self, z: Float[Tensor, " latents"]) -> Domain:
        """The domain without the surroundings of the singularities of a member with these latents."""
        return self.inputs.domain_of(z)

    def set_latents(self, count: int) -> None:
        """Gives both kinds of units `count` latents; a unit of the positions takes latents for positions."""
        kept, before = self.inputs.size - self.inputs.added, self.inputs.added
        self.inputs.set_latents(count)
        for layer, others in ((self.body, 0), (self.coefficients, len(self.inputs.momenta))):
            widen(layer, kept - others, before, self.inputs.added)
        self._set_places()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        self.set_latents(self.inputs.latents_of(state_dict.get(f"{prefix}body.weight")))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    @property
    def plain_features(self) -> Bool[Tensor, " features"]:
        """u itself and the products of its lengths, in this order."""
        return torch.arange(self.head.in_features, device=self.constant.device) >= self._parts[0] + self._parts[1]

    @property
    def separable_features(self) -> Bool[Tensor, " features"]:
        """All features but units of positions times momenta, and products of a position and a momentum; where the mass
        matrix depends on the positions, those of positions alone and the kinetic energies.
        """
        alone = (self.constant > 0).repeat(self.coefficients.out_features)
        momenta = torch.zeros(self.inputs.size, dtype=torch.bool, device=alone.device)
        momenta[self.momenta] = True
        same = momenta[self.first] == momenta[self.second]
        higher = [len({bool(momenta[i]) for i in product}) == 1 for product in self._higher]
        pure = torch.tensor(higher, dtype=torch.bool, device=alone.device)
        distances = alone.new_ones(len(self._powers))  # of positions
        both = alone.new_zeros(len(self._quotients))
        units = alone.new_ones(self._parts[0])
        inputs = torch.ones_like(momenta)
        if self._kinetic is not None:
            inputs, same = ~momenta, ~momenta[self.first] & ~momenta[self.second]
            pure = torch.tensor([not any(momenta[i] for i in one) for one in self._higher], dtype=torch.bool).to(alone)
        parts = [units, alone, inputs, same, distances, pure, both]
        kinetic = alone.new_ones(self.head.in_features - sum(map(len, parts)))
        return torch.cat([*parts[:5], kinetic, *parts[5:]])

    @property
    def beside_units(self) -> Bool[Tensor, " features"] | None:
        """No products of three and more factors, and where the body is separated none that are not separable.

        Hidden units can have the shape of a high power, with which a head would fit the noise of recordings.
        """
        high = len(self._higher) + len(self._quotients)
        if not high:
            return self.separable_features if self.separated else None
        features = self.head.in_features
        low = torch.arange(features, device=self.constant.device) < features - high
        return low & self.separable_features if self.separated else low

    @property
    def has_kinetic_energies(self) -> bool:
        """Whether kinetic energies of mass matrices that depend on the positions are among the features."""
        return self._kinetic is not None

    @property
    def separated(self) -> bool:
        """Whether no hidden unit sees positions and momenta together."""
        return bool((self.body.weight == 0).any())

    def separate(self) -> None:
        """Lets every second of the units that see all of u see the positions alone, and the others the momenta.

        With the features that are separable, the energy is H = T(p) + V(q). Weights that are 0 stay so in training.
        Where there are kinetic energies of mass matrices, these are T, and all units see the positions alone.
        """
        with torch.no_grad():
            if self._kinetic is not None:
                self.body.weight[:, self.momenta] = 0.0
                return
            self.body.weight[::2, self.momenta] = 0.0
            self.body.weight[1::2, self.positions] = 0.0

    def forward(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch"]:
        """The learned energy H_θ(x), known up to a constant."""
        return self._energy(self.beside(x, {}), self._head({}))

    def energy_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "*batch state"]
    ) -> Float[Tensor, "*batch"]:
        """The learned energies of many tasks, each with its own head; arguments as for `field_with`."""
        self._check_head(parameters)
        return self._energy(self.beside(x, parameters), self._head(parameters))

    def field(self, x: Float[Tensor, "*batch state"]) -> Float[Tensor, "*batch state"]:
        """Equation (1), dx/dt = Ω ∇ₓH_θ(x)."""
        return self._field(self.beside(x, {}), self._head({}))

    def field_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "tasks points state"]
    ) -> Float[Tensor, "tasks points state"]:
        """Equation (1) for many tasks, each with its own head, or with other weights of its own."""
        if set(parameters) <= {"head.weight", "latents"}:
            return self._field(self.beside(x, parameters), self._head(parameters))
        return super().field_with(parameters, x)

    def field_features(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch state width"]:
        """A(x) = Ω (∂φ/∂x)ᵀ, so that the field is A(x) w: linear in the head."""
        u, slopes = self.inputs(x), self.inputs.slopes(x)
        of_all = self.activation.derivatives(self.body(u))
        of_positions = self.activation.derivatives(self.coefficients(u.index_select(-1, self.positions)))
        factors, rates = self._factors(u)
        both = (slopes[..., self.positions] @ self.coefficients.weight.mT) * of_positions[1].unsqueeze(-2)
        both = both.unsqueeze(-1) * factors[..., None, None, :]
        along = slopes[..., self.momenta] @ rates.mT  # of the factors
        both = both + of_positions[0][..., None, :, None] * along.unsqueeze(-2)
        parts = [
            (slopes @ self.body.weight.mT) * of_all[1].unsqueeze(-2),
            both.flatten(-2),
            slopes[..., : self._parts[2]],
            slopes[..., self.first] * u[..., None, self.second] + slopes[..., self.second] * u[..., None, self.first],
        ]
        parts += [slopes @ terms.rates(u).mT for terms in self.more]
        features = self.inputs.gathered(torch.cat(parts, dim=-1)) * self.domain.energy_scale
        return hamiltonian_field(features.mT).mT

    def jacobian_with(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "tasks points state"]
    ) -> Float[Tensor, "tasks points state state"]:
        """Ω ∇²H(x) of many tasks, each with its own head; written out window by window."""
        self._check_head(parameters)
        with torch.no_grad():
            x = self.beside(x, parameters)
            u, slopes, head = self.inputs(x), self.inputs.slopes(x), self._head(parameters)
            hessian = slopes @ self._hessian(u, head) @ slopes.mT
            if not self.inputs.scaled:
                hessian = hessian + self.inputs.curvature(x, self._gradient(u, head))
            return hamiltonian_field(self.inputs.gathered_pairs(hessian).mT).mT

    def latent_slopes(
        self, parameters: Mapping[str, Tensor], x: Float[Tensor, "tasks points state"]
    ) -> Float[Tensor, "tasks points state latents"]:
        """∂f/∂z of many tasks, each with its own head; written out, and differentiable."""
        self._check_head(parameters)
        x = self.beside(x, parameters)
        u, slopes, head = self.inputs(x), self.inputs.slopes(x), self._head(parameters)
        moved, mixed = self.inputs.by_latents(x, self._gradient(u, head))
        rows = slopes @ (self._hessian(u, head) @ moved) + mixed
        return hamiltonian_field(self.inputs.gathered(rows).mT).mT

    def _hessian(self, u: Tensor, head: Tensor) -> Tensor:
        """∂²H/∂u² in each window."""
        c_all, c_positions, _, c_products, *others = head.split(self._parts, dim=-1)
        _, _, bent, _ = self.activation.derivatives(self.body(u))
        value, slope, curved, _ = self.activation.derivatives(self.coefficients(u.index_select(-1, self.positions)))
        factors, rates = self._factors(u)
        c = c_positions.unflatten(-1, (-1, factors.shape[-1]))
        hessian = (self.body.weight.mT * (c_all * bent).unsqueeze(-2)) @ self.body.weight
        inner = self.coefficients.weight
        own, of_factors = _times(factors, c.mT), _times(value, c)
        qp = _times(inner.mT * slope.unsqueeze(-2), c) @ rates
        qq = (inner.mT * (own * curved).unsqueeze(-2)) @ inner
        n = len(self.momenta)
        pp = (of_factors @ self.bilinear.flatten(1)).unflatten(-1, (n, n))
        of_both = torch.cat([torch.cat([qq, qp], dim=-1), torch.cat([qp.mT, pp], dim=-1)], dim=-2)
        of_both = of_both.index_select(-1, self.places).index_select(-2, self.places)
        hessian = hessian + of_both + self._quadratic(c_products)
        for terms, c in zip(self.more, others, strict=True):
            hessian = hessian + terms.hessian(u, c)
        return hessian

    def body_jacobian(
        self, x: Float[Tensor, "points inputs"], columns: Float[Tensor, "points features outputs"]
    ) -> Float[Tensor, "points state weights"]:
        """∂f/∂θ of both kinds of units."""
        with torch.no_grad():
            u, slopes = self.inputs(x), self.inputs.slopes(x)
            alone = self.inputs.windows == 1
            if alone:  # all is linear in these rates, so that Ω is applied to the few of them
                slopes = hamiltonian_field(slopes.mT).mT
            c = columns[:, None, :, 0] * self.domain.energy_scale
            c_all, c_positions, *_ = c.split(self._parts, dim=-1)
            inner, outer = self.coefficients.weight, self.body.weight
            sizes = [outer.numel(), len(outer), inner.numel(), len(inner)]
            rows = x.new_empty(*slopes.shape[:-1], sum(sizes))  # [points, windows, local, weights]
            of_all, bent_all, of_positions, bent_positions = rows.split(sizes, dim=-1)

            _, first, second, _ = self.activation.derivatives(self.body(u))
            torch.mul(slopes @ outer.mT, (c_all * second).unsqueeze(-2), out=bent_all)
            products = of_all.unflatten(-1, outer.shape)
            torch.mul(bent_all.unsqueeze(-1), u[..., None, None, :], out=products)
            products.addcmul_((c_all * first)[..., None, :, None], slopes.unsqueeze(-2))

            q, slopes_q = u[..., self.positions], slopes[..., self.positions]
            _, first, second, _ = self.activation.derivatives(self.coefficients(q))
            factors, rates = self._factors(u)
            c = c_positions.unflatten(-1, (-1, factors.shape[-1]))
            own = (c * factors.unsqueeze(-2)).sum(-1)  # the coefficient of each unit, a polynomial of the momenta
            of_momenta = slopes[..., self.momenta] @ (c @ rates).mT
            torch.mul(slopes_q @ inner.mT, (own * second).unsqueeze(-2), out=bent_positions)
            bent_positions.addcmul_(of_momenta, first.unsqueeze(-2))
            products = of_positions.unflatten(-1, inner.shape)
            torch.mul(bent_positions.unsqueeze(-1), q[..., None, None, :], out=products)
            products.addcmul_((own * first)[..., None, :, None], slopes_q.unsqueeze(-2))
            if self.separated:
                of_all.mul_((outer != 0).flatten())
            rows = self.inputs.gathered(rows)
            return rows if alone else hamiltonian_field(rows.mT).mT

    def _check_head(self, parameters: Mapping[str, Tensor]) -> None:
        if others := set(parameters) - {"head.weight", "latents"}:
            raise TypeError(f"a NaturalNetwork's energy has a head for each task, and no {', '.join(sorted(others))}")

    def _head(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The coefficients of the energy, a row for each task, which broadcasts over its points and their windows; or
        one for all."""
        head = parameters.get("head.weight", self.head.weight)[..., 0, :] * self.domain.energy_scale
        return head if head.dim() == 1 else head[:, None, None]

    def _factors(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """1, pᵢ and pᵢ pⱼ, and their derivatives with respect to p, `[..., factors, momenta]`."""
        p = u.index_select(-1, self.momenta)
        curved = (p @ self.bilinear.flatten(0, 1).mT).unflatten(-1, self.linear.shape)
        values = self.constant + p @ self.linear.mT + (curved * p.unsqueeze(-2)).sum(-1) / 2
        return values, self.linear + curved

    def _energy(self, x: Tensor, head: Tensor) -> Tensor:
        u = self.inputs(x)
        of_all = self.activation.value(self.body(u))
        of_positions = self.activation.value(self.coefficients(u.index_select(-1, self.positions)))
        factors, _ = self._factors(u)
        both = (of_positions.unsqueeze(-1) * factors.unsqueeze(-2)).flatten(-2)
        products = u[..., self.first] * u[..., self.second]
        parts = [of_all, both, u[..., : self._parts[2]], products]
        parts += [terms(u) for terms in self.more]
        return (torch.cat(parts, dim=-1) * head).sum((-2, -1))

    def _field(self, x: Tensor, head: Tensor) -> Tensor:
        gradient = self._gradient(self.inputs(x), head)
        rows = self.inputs.slopes(x) @ gradient.unsqueeze(-1)
        return hamiltonian_field(self.inputs.gathered(rows)[..., 0])

    def _gradient(self, u: Tensor, head: Tensor) -> Tensor:
        """∂H/∂u in each window."""
        c_all, c_positions, c_inputs, c_products, *others = head.split(self._parts, dim=-1)
        gradient = (c_all * self._slope(self.body(u))) @ self.body.weight
        no_inputs = c_inputs.new_zeros(*c_inputs.shape[:-1], self.inputs.added)  # latents are no features themselves
        gradient = gradient + torch.cat([c_inputs, no_inputs], dim=-1)
        a = self.coefficients(u.index_select(-1, self.positions))
        factors, rates = self._factors(u)
        c = c_positions.unflatten(-1, (-1, factors.shape[-1]))
        value = self.activation.value(a)
        of_positions = (_times(factors, c.mT) * self.activation.derivative(a, value)) @ self.coefficients.weight
        of_momenta = (_times(value, c).unsqueeze(-1) * rates).sum(-2)
        gradient = gradient + torch.cat([of_positions, of_momenta], dim=-1).index_select(-1, self.places)
        gradient = gradient + _times(u, self._quadratic(c_products))
        for terms, c in zip(self.more, others, strict=True):
            gradient = gradient + terms.gradient(u, c)
        return gradient

    def _quadratic(self, c_products: Tensor) -> Tensor:
        """The matrix S of the quadratic form u S u / 2 that products add to the energy."""
        size = self.inputs.size
        return (c_products @ self.pairs).unflatten(-1, (size, size))

    def _slope(self, a: Tensor) -> Tensor:
        return self.activation.derivative(a, self.activation.value(a))


def _times(rows: Float[Tensor, "*batch inner"], heads: Tensor) -> Float[Tensor, "*batch outer"]:
    """The product of rows with the matrix of their task, `[tasks, 1, 1, inner, outer]`, or with one for all."""
    if heads.dim() == 2:
        return rows @ heads
    together = torch.bmm(rows.flatten(1, -2), heads.flatten(0, 2))
    return together.unflatten(1, rows.shape[1:-1])
