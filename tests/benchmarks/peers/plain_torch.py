"""The network as users of the PyTorch libraries write it: the field is the gradient of an energy."""

import torch
from torch import nn
from work import layers

from meta_hamiltonian.systems import Pendulum

BOX = torch.tensor(Pendulum().state_box)


def body() -> nn.Sequential:
    modules: list[nn.Module] = []
    for weight, bias in layers()[0]:
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": weight, "bias": bias})
        modules += [linear, nn.Tanh()]
    return nn.Sequential(*modules)


def head() -> nn.Linear:
    weight = layers()[1]
    linear = nn.Linear(weight.shape[1], 1, bias=False)
    linear.load_state_dict({"weight": weight})
    return linear


def field(energy, x):
    """Ω ∇ₓH, differentiable."""
    (gradient,) = torch.autograd.grad(energy.sum(), x, create_graph=True)
    return torch.stack([gradient[:, 1], -gradient[:, 0]], dim=-1)


def loss(net, x, dxdt):
    x = x.clone().requires_grad_()
    return (field(net(x / BOX), x) - dxdt).square().sum(-1).mean()
