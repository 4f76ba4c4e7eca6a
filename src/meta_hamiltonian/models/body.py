"""The body of both networks: hidden layers of one width."""

import itertools
import math

from torch import nn


def hidden_layers(inputs: int, width: int, depth: int, activation: str) -> nn.ModuleList:
    """`depth` linear layers, the first from so many `inputs`; the activations between them are applied by the network.

    They start as PyTorch's linear layers do, but for the first one before a sine: its phases are uniform, as in random
    Fourier features, and so are its frequencies, for two inputs up to two periods across the state box, for others such
    that a sine turns as often between two random states. From small weights a sine is almost linear, and training stays
    on a plateau until the frequencies have grown; with frequencies that do not shrink with the dimension, no two states
    would have anything in common.

    ??? cite "Reference"

        Rahimi, Recht: Random features for large-scale kernel machines. NeurIPS 2007. Also Sitzmann et al.: Implicit
        neural representations with periodic activation functions. NeurIPS 2020. arXiv:2006.09661.
    """
    sizes = [inputs] + [width] * depth
    layers = [nn.Linear(i, o) for i, o in itertools.pairwise(sizes)]
    if activation == "sin":
        fastest = 2 * math.pi * math.sqrt(2 / inputs)  # the inputs lie in [-1, 1]
        nn.init.uniform_(layers[0].weight, -fastest, fastest)
        nn.init.uniform_(layers[0].bias, -math.pi, math.pi)
    return nn.ModuleList(layers)
