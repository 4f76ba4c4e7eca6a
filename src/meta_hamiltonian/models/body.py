"""The body of both networks: hidden layers of one width."""

import itertools
import math

from torch import nn


def hidden_layers(inputs: int, width: int, depth: int, activation: str) -> nn.ModuleList:
    """`depth` linear layers, the first of which takes `inputs` numbers; the network applies the activations between.

    Their initial weights are those of PyTorch's linear layers, except in the first layer before a sine. There the
    phases are uniform, as in random Fourier features, and so are the frequencies. With two inputs these reach two
    periods across the state box; with more they shrink, so that a sine turns as often between two random states. From
    smaller weights a sine is almost linear, and training stays on a plateau until the frequencies have grown. With
    frequencies that do not shrink with the dimension, no two states would have anything in common.

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
