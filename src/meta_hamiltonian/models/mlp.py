"""The body of both networks: hidden layers of one width."""

import itertools

from torch import nn


def hidden_layers(state_dim: int, width: int, depth: int) -> nn.ModuleList:
    """`depth` linear layers, the first from `state_dim`; the activations between them are applied by the network."""
    if state_dim < 2 or state_dim % 2:
        raise ValueError(f"state_dim must be even and at least 2 (positions, then momenta), got {state_dim}")
    if width < 1 or depth < 1:
        raise ValueError(f"width and depth must be at least 1, got width={width}, depth={depth}")
    sizes = [state_dim] + [width] * depth
    return nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(sizes))
