"""The field is linear in the head: adapting the head alone is a linear least-squares problem."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.episodes import Points
from meta_hamiltonian.models import FieldNetwork


def head_rows(net: FieldNetwork, x: Float[Tensor, "*tasks points state"]) -> Float[Tensor, "*tasks rows features"]:
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


def head_problem(net: FieldNetwork, points: Points) -> tuple[Tensor, Tensor]:
    """A and y of every task: its head fits them where A w = y. Rows of points that a task does not have are 0."""
    return present_rows(points, head_rows(net, points.x)), present_rows(points, head_targets(net, points.dxdt))


def present_rows(points: Points, rows: Float[Tensor, "*tasks rows columns"]) -> Float[Tensor, "*tasks rows columns"]:
    """The rows of A or y, 0 at the points that a task does not have."""
    if points.mask is None:
        return rows
    each = rows.shape[-2] // points.mask.shape[-1]
    return rows * points.mask.repeat_interleave(each, dim=-1).unsqueeze(-1)
