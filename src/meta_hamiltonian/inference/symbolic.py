"""A learned Hamiltonian in the terms of a textbook."""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import hamiltonian_field
from meta_hamiltonian.models import Adapted, AdaptedSystems

# Terms are left out as long as the others meet the field to this part of its RMS, or as well as it is known.
_THRESHOLD = 0.002
# A sum that misses more than this part of the field is no reading of it.
_READABLE = 0.05
# A rate that is this part of the largest is none.
_NOTHING = 1e-9
# States at which fields are compared.
_STATES = 1024

Term = tuple[str, Callable[[Float[Tensor, "*batch state"]], Float[Tensor, "*batch"]]]


@dataclasses.dataclass(frozen=True)
class Reading:
    """H as a sum of simple terms.

    - `terms`, `coefficients`, `deviations`: their names, factors and the standard deviations of these (0 where there
        are no samples of a posterior).
    - `error`: RMS of what the field of the sum differs from the learned field by, relative to its RMS.
    """

    terms: Sequence[str]
    coefficients: Sequence[float]
    deviations: Sequence[float]
    error: float

    def __str__(self) -> str:
        if not self.error <= _READABLE:
            return f"no sum of the terms that are tried comes nearer to the field than {self.error:.1g} of it"
        parts = [
            f"{value:+.4g}" + (f" (± {deviation:.1g})" if deviation > 0 else "") + f" {term}"
            for term, value, deviation in zip(self.terms, self.coefficients, self.deviations, strict=True)
        ]
        text = " ".join(parts).removeprefix("+") or "0"
        return f"H = {text} + const, to {self.error:.1g} of the field"


def library(state_dim: int) -> list[Term]:
    """The terms that are tried: for each degree of freedom p², p⁴, q, q², q⁴, sin q, cos q, sin 2q and cos 2q, and for
    each pair products of positions, of momenta, and the cosine of the difference of positions."""
    n = state_dim // 2
    terms: list[Term] = []
    for i in range(n):
        q, p = (f"{name}{i + 1}" if n > 1 else name for name in "qp")
        terms += [
            (f"{p}²", _of(n + i, torch.square)),
            (f"{p}⁴", _of(n + i, lambda p: p**4)),
            (q, _of(i, lambda q: q)),
            (f"{q}²", _of(i, torch.square)),
            (f"{q}⁴", _of(i, lambda q: q**4)),
            (f"sin {q}", _of(i, torch.sin)),
            (f"cos {q}", _of(i, torch.cos)),
            (f"sin 2{q}", _of(i, lambda q: (2 * q).sin())),
            (f"cos 2{q}", _of(i, lambda q: (2 * q).cos())),
        ]
        for k in range(i):
            terms += [
                (f"q{k + 1} q{i + 1}", lambda x, a=k, b=i: x[..., a] * x[..., b]),
                (f"p{k + 1} p{i + 1}", lambda x, a=n + k, b=n + i: x[..., a] * x[..., b]),
                (f"cos(q{k + 1} − q{i + 1})", lambda x, a=k, b=i: (x[..., a] - x[..., b]).cos()),
            ]
    return terms


def _of(coordinate: int, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: function(x[..., coordinate])


def read_symbolically(adapted: Adapted, samples: AdaptedSystems | None, near: Float[Tensor, "points state"]) -> Reading:
    """Sparse regression of the learned field on the fields of the terms of [`library`][].

    Least squares, from which the term that is missed least is left out again and again, until all of them matter.

    **Arguments:**

    - `adapted`: the system.
    - `samples`: of its posterior, for the uncertainty.
    - `near`: the observed states; the reading is for where they lie.

    ??? cite "Reference"

        Sparse regression on a library of terms: Brunton, Proctor, Kutz: Discovering governing equations from data by
        sparse identification of nonlinear dynamical systems. PNAS 113, 2016. The elimination: Boninsegna, Nüske,
        Clementi: Sparse learning of stochastic dynamical equations. Journal of Chemical Physics 148, 2018.
    """
    adapted = Adapted(dataclasses.replace(adapted.systems, forces=None))  # H, and not what takes it away
    samples = None if samples is None else dataclasses.replace(samples, forces=None)
    near = near.double()
    unit = torch.quasirandom.SobolEngine(near.shape[-1]).draw(_STATES, dtype=torch.float64)
    low, high = near.amin(0), near.amax(0)
    margin = 0.1 * (high - low)
    margin = torch.where(margin > 0, margin, 0.05 * adapted.systems.net.state_box.double().cpu())  # one state alone
    x = low - margin + (high - low + 2 * margin) * unit
    terms = library(x.shape[-1])
    field = adapted.field(x)
    # Rates have units of their own: each counts in parts of its size.
    weight = 1 / field.square().mean(0).sqrt().clamp_min(_NOTHING * field.abs().max()).clamp_min(1e-300)
    design = torch.stack([(weight * _field(term, x)).flatten() for _, term in terms], dim=-1)
    target = (weight * field).flatten()
    size = target.square().mean().sqrt().clamp_min(torch.finfo(target.dtype).tiny)
    fields = None
    if samples is not None:
        fields = (weight * samples.field(x.expand(len(samples.scale), *x.shape))).flatten(1)
    known = 0.0 if fields is None else fields.var(0).mean().sqrt().item()
    kept = list(range(len(terms)))
    while kept:
        fewer = [kept[:i] + kept[i + 1 :] for i in range(len(kept))]
        errors = [_misfit(design, target, terms) for terms in fewer]
        best = min(range(len(fewer)), key=errors.__getitem__)
        if errors[best] > max(_THRESHOLD * size.item(), known):
            break
        kept = fewer[best]
    coefficients = torch.linalg.lstsq(design[:, kept], target[:, None]).solution[:, 0] if kept else target.new_zeros(0)
    deviations = torch.zeros_like(coefficients)
    if fields is not None and kept:
        deviations = torch.linalg.lstsq(design[:, kept], fields.mT).solution.std(1)
    error = _misfit(design, target, kept) / size
    return Reading([terms[i][0] for i in kept], coefficients.tolist(), deviations.tolist(), float(error))


def _misfit(design: Tensor, target: Tensor, kept: Sequence[int]) -> float:
    if not kept:
        return float(target.square().mean().sqrt())
    scaled = design[:, kept] / design[:, kept].square().mean(0).sqrt()
    solution = torch.linalg.lstsq(scaled, target[:, None], driver="gelsd").solution
    return float((scaled @ solution - target[:, None]).square().mean().sqrt())


def _field(term: Callable[[Tensor], Tensor], x: Float[Tensor, "points state"]) -> Float[Tensor, "points state"]:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(term(x).sum(), x)
    return hamiltonian_field(gradient)
