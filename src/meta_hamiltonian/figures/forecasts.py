"""The rest of recordings, predicted from their beginnings."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from matplotlib.figure import Figure

from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.evaluation.halves import LEARNED, Forecast
from meta_hamiltonian.figures.style import OBSERVATIONS, PREDICTION, SERIES, TRUTH, broken, new_figure, number

_MOST = 4  # members that are drawn
_TITLE = 6.0  # inches, for a title


def forecast_figure(
    found: Sequence[Forecast], domain: Domain, labels: Mapping[str, str] = MappingProxyType({})
) -> Figure:
    """A row for each of the first members: its first position as it was observed and as it was predicted, with the 95 %
    band, and the baselines in thin lines.

    **Arguments:** `labels`: what is known of the members, in words.
    """
    names = list(dict.fromkeys(one.member for one in found))[:_MOST]
    figure = new_figure(8.6, 1.9 * len(names) + 0.5)
    rows = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    label = domain.labels[0]
    for axes, name in zip(rows, names, strict=True):
        own = [one for one in found if one.member == name]
        halves = own[0].halves
        observed = halves.beginnings[-1]
        later = halves.t[1:].numpy()
        axes.plot(observed.t, observed.q[:, 0], ".", color=OBSERVATIONS, markersize=2, label="observed")
        axes.plot(later, halves.rest[:, 0].numpy(), ".", color=TRUTH, markersize=2, label="later")
        seen = np.concatenate([observed.q[:, 0], halves.rest[:, 0].numpy()])
        colours = iter(colour for colour in SERIES if colour not in (TRUTH, PREDICTION, OBSERVATIONS))
        for one in own:
            learned = one.method == LEARNED
            look = {"color": PREDICTION, "linewidth": 1.2} if learned else {"color": next(colours), "linewidth": 0.6}
            label_of = "predicted" if learned else one.method
            axes.plot(later, one.states[:, 0].numpy(), label=f"{label_of}, error {number(one.error)}", **look)
            if one.bands:
                low, high = (end[:, 0].numpy() for end in one.bands[-1])
                axes.fill_between(later, low, high, color=PREDICTION, alpha=0.2, linewidth=0)
        middle, half = (np.nanmax(seen) + np.nanmin(seen)) / 2, 0.9 * np.ptp(seen[np.isfinite(seen)])
        axes.set_ylim(middle - half, middle + half)
        axes.axvline(halves.t[0].item(), color="0.8", linewidth=0.8, zorder=0)
        said = f"{name}: {labels[name]}" if labels.get(name) else name
        axes.set_title(broken(said, _TITLE, 9), fontsize=9)
        axes.set_ylabel(label, fontsize=8)
        axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    rows[-1].set_xlabel(domain.time_label)
    return figure
