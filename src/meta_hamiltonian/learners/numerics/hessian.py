"""The loss of a Hamiltonian network with its gradient and Hessian, written out as matrix products.

For one task and its points, with layers l = 1 ... L, products of arrays of one shape element by element:

- forward: a_l = h_{l-1} W_lᵀ + b_l and h_l = σ(a_l), from h_0 = x in units of the state box;
- back to the input, for equation (1): u_{l-1} = g_l W_l with g_l = u_l σ′(a_l), from u_L = w. Then ∇ₓH = u_0;
- equation (2) depends on the weights through u_0 alone. With ρ = ∂L/∂u_0 held fixed, ⟨ρ, u_0⟩ is the derivative of H
    along ρ: c_l = t_{l-1} W_lᵀ and t_l = σ′(a_l) c_l, from t_0 = ρ, and ⟨ρ, u_0⟩ = ⟨w, t_L⟩;
- back from there: q_l = σ″(a_l) u_l c_l + σ′(a_l) q_{l+1} W_{l+1}. The gradient is
    ∂L/∂W_l = q_lᵀ h_{l-1} + g_lᵀ t_{l-1}, ∂L/∂b_l = Σ q_l and ∂L/∂w = Σ t_L over the points.

The Hessian times a vector is the derivative of all this along that vector, written R{·} by Pearlmutter (Fast exact
multiplication by the Hessian, Neural Computation 1994).

Automatic differentiation needs the same matrix products, but several times as many passes over the arrays between
them, and these take most of the time of a meta-batch of small networks.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from meta_hamiltonian.dynamics import hamiltonian_field
from meta_hamiltonian.episodes import Points
from meta_hamiltonian.models import FieldNetwork


class Layer(NamedTuple):
    """What the Hessian needs of a hidden layer and its input."""

    weight: Float[Tensor, "tasks width inputs"]
    h_in: Float[Tensor, "tasks points inputs"]
    """h_{l-1}"""
    t_in: Float[Tensor, "tasks points inputs"]
    """t_{l-1}"""
    slope: Float[Tensor, "tasks points width"]
    """σ′(a_l)"""
    g: Float[Tensor, "tasks points width"]
    q: Float[Tensor, "tasks points width"]
    q_of_a: Float[Tensor, "tasks points width"]
    """∂q_l/∂a_l = σ‴ u_l c_l + σ″ q_{l+1} W_{l+1}"""
    q_of_u: Float[Tensor, "tasks points width"]
    """∂q_l/∂u_l = ∂t_l/∂a_l = σ″ c_l"""
    q_of_c: Float[Tensor, "tasks points width"]
    """∂q_l/∂c_l = ∂g_l/∂a_l = σ″ u_l"""


class Tape(NamedTuple):
    """The layers, and ∂ρ/∂u_0."""

    layers: list[Layer]
    rho_of_u: Float[Tensor, "tasks points state"]


def loss_gradient(
    net: FieldNetwork, weights: Mapping[str, Tensor], points: Points
) -> tuple[Float[Tensor, " tasks"], dict[str, Tensor], Tape]:
    """Equation (2) on every task's points, and its gradient.

    **Arguments:**

    - `net`: one that `has_layers`; its structure is used, its weights are not.
    - `weights`: every parameter by name, with a leading task dimension.
    - `points`: those of every task.

    **Returns:**

    The losses, each task's gradient of its own, and what [`hessian_product`][] needs. None of them is
    differentiable by autograd.
    """
    parameters, head = net.layers(weights)
    counts = points.counts[:, None, None]
    derivatives = net.activation.derivatives

    h, sigma = [net.normalized(points.x)], []
    for weight, bias in parameters:
        values, *slopes = derivatives(torch.baddbmm(bias.unsqueeze(1), h[-1], weight.mT))
        h.append(values)
        sigma.append(slopes)

    u, g = [head], []
    for (weight, _), (slope, _, _) in zip(parameters[::-1], sigma[::-1], strict=True):
        g.append(u[-1] * slope)
        u.append(torch.bmm(g[-1], weight))
    u, g = u[::-1], g[::-1]

    # Ω turns the error of ∇ₓH into that of the field without changing its length.
    error = points.rows(u[0] / net.state_box + hamiltonian_field(points.dxdt))
    rho = error * (2 / counts) / net.state_box

    c, t = [], [rho]
    for (weight, _), (slope, _, _) in zip(parameters, sigma, strict=True):
        c.append(torch.bmm(t[-1], weight.mT))
        t.append(c[-1] * slope)

    gradient, layers, back = {"head.weight": t[-1].sum(1, keepdim=True)}, [], None  # back = q_{l+1} W_{l+1}
    for i in reversed(range(len(parameters))):
        weight, (slope, second, third) = parameters[i][0], sigma[i]
        q_of_u, q_of_c = second * c[i], second * u[i + 1]
        q, q_of_a = q_of_c * c[i], third * u[i + 1] * c[i]
        if back is not None:
            q, q_of_a = torch.addcmul(q, slope, back), torch.addcmul(q_of_a, second, back)
        if i > 0:
            back = torch.bmm(q, weight)
        layers.append(Layer(weight, h[i], t[i], slope, g[i], q, q_of_a, q_of_u, q_of_c))
        # The first layer's product is several times as fast in the transposed shape.
        transposed = torch.baddbmm(torch.bmm(h[i].mT, q), t[i].mT, g[i])
        gradient[f"body.{i}.weight"], gradient[f"body.{i}.bias"] = transposed.mT, q.sum(1)

    losses = points.mean(error.square().sum(-1))
    rho_of_u = points.rows((2 / counts / net.state_box.square()).expand_as(error))
    return losses, gradient, Tape(layers[::-1], rho_of_u)


def hessian_product(tape: Tape, vector: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every task's Hessian of its loss, times a vector: R{gradient} where R{weights} is the vector.

    **Arguments:**

    - `tape`: that of [`loss_gradient`][].
    - `vector`: tensors of the shapes of the weights, by name.
    """
    layers = tape.layers
    v = [vector[f"body.{i}.weight"] for i in range(len(layers))]

    r_a, r_h = [], []  # r_h[i] = R{h_i}, of which that of the input is zero and left out
    for i, layer in enumerate(layers):
        r = torch.baddbmm(vector[f"body.{i}.bias"].unsqueeze(1), layer.h_in, v[i].mT)
        r_a.append(torch.baddbmm(r, r_h[-1], layer.weight.mT) if i > 0 else r)
        r_h.append(r_a[-1] * layer.slope)

    r_u, r_g = [vector["head.weight"]], []
    for i, layer in reversed(list(enumerate(layers))):
        r_g.append(torch.addcmul(r_u[-1] * layer.slope, layer.q_of_c, r_a[i]))
        r_u.append(torch.baddbmm(torch.bmm(layer.g, v[i]), r_g[-1], layer.weight))
    r_u, r_g = r_u[::-1], r_g[::-1]

    r_c, r_t = [], [r_u[0] * tape.rho_of_u]
    for i, layer in enumerate(layers):
        r_c.append(torch.baddbmm(torch.bmm(layer.t_in, v[i].mT), r_t[-1], layer.weight.mT))
        r_t.append(torch.addcmul(layer.q_of_u * r_a[i], layer.slope, r_c[-1]))

    product, back = {"head.weight": r_t[-1].sum(1, keepdim=True)}, None
    for i, layer in reversed(list(enumerate(layers))):
        r_q = torch.addcmul(layer.q_of_a * r_a[i], layer.q_of_c, r_c[i])
        r_q = torch.addcmul(r_q, layer.q_of_u, r_u[i + 1])
        if back is not None:
            r_q = torch.addcmul(r_q, layer.slope, back)
        transposed = torch.baddbmm(torch.bmm(layer.h_in.mT, r_q), layer.t_in.mT, r_g[i])
        transposed = torch.baddbmm(transposed, r_t[i].mT, layer.g)
        if i > 0:
            transposed = torch.baddbmm(transposed, r_h[i - 1].mT, layer.q)
            back = torch.baddbmm(torch.bmm(layer.q, v[i]), r_q, layer.weight)
        product[f"body.{i}.weight"], product[f"body.{i}.bias"] = transposed.mT, r_q.sum(1)
    return product
