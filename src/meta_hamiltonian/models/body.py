"""The body of both networks: hidden layers of one width."""

import itertools
import math

from torch import nn


def hidden_layers(state_dim: int, width: int, depth: int, activation: str) -> nn.ModuleList:
    """`depth` linear layers, the first from `state_dim`; the activations between them are applied by the network.

    They start as PyTorch's linear layers do, but for the first one before a sine: its frequencies are uniform up to
    two periods across the state box, its phases uniform, as in random Fourier features. From small weights
    a sine is almost linear, and training stays on a plateau until the frequencies have grown.

    ??? cite "Reference"

        Rahimi, Recht: Random features for large-scale kernel machines. NeurIPS 2007. Also Sitzmann et al.: Implicit
        neural representations with periodic activation functions. NeurIPS 2020. arXiv:2006.09661.
    """
    sizes = [state_dim] + [width] * depth
    layers = [nn.Linear(i, o) for i, o in itertools.pairwise(sizes)]
    if activation == "sin":
        nn.init.uniform_(layers[0].weight, -2 * math.pi, 2 * math.pi)  # the inputs lie in [-1, 1]
        nn.init.uniform_(layers[0].bias, -math.pi, math.pi)
    return nn.ModuleList(layers)
