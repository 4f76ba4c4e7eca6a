"""The field is linear in the head: adapting the head alone is a linear least-squares problem."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.episodes import Points
from meta_hamiltonian.models import FieldNetwork

# A free column that is this near to others, relative to its size, does not count.
_INDEPENDENT = 1e-6


def head_rows(net: FieldNetwork, x: Float[Tensor, "*tasks points inputs"]) -> Float[Tensor, "*tasks rows features"]:
    """A(x), the features of all points of a task below each other, so that the field is A(x) w.

    A Hamiltonian network has a row for every coordinate of every point. A network without physics has one for every
    point, with one more feature, always 1, where its head has a bias.
    """
    features = net.field_features(x).flatten(x.dim() - 2, -2)
    if net.head.bias is not None:
        features = torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)
    return features


def head_targets(net: FieldNetwork, dxdt: Float[Tensor, "*tasks points state"]) -> Float[Tensor, "*tasks rows outputs"]:
    """The observed derivatives in the shape of A(x) w."""
    return dxdt.reshape(*dxdt.shape[:-2], -1, net.head.out_features)


def head_columns(weights: Mapping[str, Tensor]) -> Float[Tensor, "*tasks features outputs"]:
    """`head.weight`, and `head.bias` where there is one, as w."""
    weight = weights["head.weight"].mT
    bias = weights.get("head.bias")
    return weight if bias is None else torch.cat([weight, bias.unsqueeze(-2)], dim=-2)


def head_weights(net: FieldNetwork, columns: Float[Tensor, "*tasks features outputs"]) -> dict[str, Tensor]:
    """w as parameters of the network, by name."""
    width = net.head.in_features
    weights = {"head.weight": columns[..., :width, :].mT}
    if net.head.bias is not None:
        weights["head.bias"] = columns[..., width, :]
    return weights


def own_head(net: FieldNetwork) -> dict[str, Tensor]:
    """The network's own head, by name."""
    return {f"head.{name}": value for name, value in net.head.named_parameters()}


def head_problem(
    net: FieldNetwork, points: Points, z: Float[Tensor, "tasks latents"] | None = None
) -> tuple[Tensor, Tensor]:
    """A and y of every task: its head fits them where A w = y. Rows of points that a task does not have are 0.

    **Arguments:** `z`: the latents of each task, where the network has any; None is 0.
    """
    inputs = net.beside(points.x, {} if z is None else {"latents": z})
    return present_rows(points, head_rows(net, inputs)), present_rows(points, head_targets(net, points.dxdt))


def centred_problem(
    net: FieldNetwork, points: Points, z: Float[Tensor, "tasks latents"] | None = None
) -> tuple[Tensor, Tensor]:
    """A and y − A w₀ of every task, w₀ the network's own head; arguments as for [`head_problem`][]."""
    features, targets = head_problem(net, points, z)
    return features, targets - features @ head_columns(own_head(net))


def balanced(net: FieldNetwork, rows: Float[Tensor, "*tasks rows columns"]) -> Float[Tensor, "*tasks rows columns"]:
    """Rows of A and y, each divided by the scale of its coordinate ([`Domain.error_scales`][]), for errors to be added.

    A network without physics, whose rows are whole points, has a head of its own for each coordinate and needs no
    scale.
    """
    if not _needs_balance(net):
        return rows
    scales = rows.new_tensor(net.domain.error_scales)
    return (rows.unflatten(-2, (-1, len(scales))) / scales[:, None]).flatten(-3, -2)


def balanced_variance(net: FieldNetwork, variance: Float[Tensor, "*tasks state"]) -> Float[Tensor, "*tasks state"]:
    """The variance of the rows of each coordinate, [`balanced`][], from those of the errors of its rates."""
    if _needs_balance(net):
        return variance / variance.new_tensor(net.domain.error_scales).square()
    return variance


def _needs_balance(net: FieldNetwork) -> bool:
    return net.head.out_features == 1 and len(set(net.domain.error_scales)) > 1


def present_rows(points: Points, rows: Float[Tensor, "*tasks rows columns"]) -> Float[Tensor, "*tasks rows columns"]:
    """The rows of A or y, 0 at the points that a task does not have, and without what its free columns can explain.

    For a network without physics, whose rows are whole points, nothing is taken out: its head can explain that too.
    """
    each = rows.shape[-2] // points.x.shape[-2]
    if points.mask is not None:
        rows = rows * points.mask.repeat_interleave(each, dim=-1).unsqueeze(-1)
    if points.free is None or each != points.x.shape[-1]:
        return rows
    basis = free_basis(points).to(rows)
    return rows - basis @ (basis.mT @ rows)


def free_basis(points: Points) -> Float[Tensor, "*tasks rows terms"]:
    """An orthonormal basis of the free columns of every task, 0 for those that depend on others or are 0."""
    assert points.free is not None
    columns = points.free.flatten(-3, -2)
    if points.mask is not None:
        columns = columns * points.mask.repeat_interleave(points.x.shape[-1], dim=-1).unsqueeze(-1)
    columns = columns / columns.norm(dim=-2, keepdim=True).clamp_min(torch.finfo(columns.dtype).tiny)
    basis, triangle = torch.linalg.qr(columns)
    return basis * (triangle.diagonal(dim1=-2, dim2=-1).abs() > _INDEPENDENT).unsqueeze(-2)
