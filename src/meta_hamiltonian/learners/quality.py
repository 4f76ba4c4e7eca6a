"""How well a learner was trained, judged by the held-out systems of its training."""

import math
from typing import NamedTuple

from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.learners.checkpoint import Trained
from meta_hamiltonian.learners.learner import Learner
from meta_hamiltonian.systems import SimulatedSystem

POOR = 0.05
"""A learner that misses the fields of held-out systems by more than this part predicts no orbits."""

# Members of the family, and points of each, that tell how large its fields are.
_MEMBERS, _POINTS = 200, 50


class Quality(NamedTuple):
    """What a training reached.

    - `steps`: outer steps.
    - `error`: RMS error of the predicted fields of held-out systems, relative to the RMS of the fields.
    - `may_need_latents`: whether the members may differ in what the learner's head cannot follow.
    - `may_need_momenta`: whether momenta were not recorded, and are those of an inertia that was assumed.
    """

    steps: int
    error: float
    may_need_latents: bool = False
    may_need_momenta: bool = False

    @property
    def warning(self) -> str | None:
        """One line where the learner is poor, else None."""
        if self.error <= POOR:
            return None
        remedy = "train it for longer, or choose another algorithm or model"
        if self.may_need_latents:
            remedy += "; algo.latents=auto is for members that differ in more than a linear head can follow"
        if self.may_need_momenta:
            remedy += (
                "; momenta were not recorded, and the law may have others than p = inertia · dq/dt, as is assumed: "
                "give columns of momenta, or data.inertia"
            )
        return (
            f"This learner was trained for {self.steps} step{'s' * (self.steps != 1)}; its predictions of held-out "
            f"systems miss the field by {self.error:.0%}: {remedy}."
        )


def quality(trained: Trained) -> Quality | None:
    """How good a learner is; None where its training does not tell."""
    size = None
    if trained.learner.scale != "task" and isinstance(trained.system, SimulatedSystem):
        fields = sample_episodes(trained.system, _MEMBERS, _POINTS, 1, seed=0, split="sizes").support.dxdt
        size = fields.square().mean().sqrt().item()
    learner = trained.learner
    error = usual_error(learner, trained.validation_loss, size)
    if error is None:
        return None
    simulated = isinstance(trained.system, SimulatedSystem)
    heads_alone = learner.solves_for_head and learner.net.takes_latents and not learner.net.latents
    assumed = trained.settings.get("recordings", {}).get("inertia") is not None and learner.net.domain.kinetic is None
    return Quality(int(trained.history[-1]["step"]), error, simulated and heads_alone, assumed)


def poor(trained: Trained) -> list[str]:
    """The warnings about a learner that was not trained well, or whose recordings may have another kind of law."""
    found, doubt = quality(trained), trained.settings.get("recordings", {}).get("doubt")
    return [one for one in (None if found is None else found.warning, doubt) if one]


def usual_error(learner: Learner, loss: float | None, size: float | None = None) -> float | None:
    """The relative RMS error of the predicted fields of held-out systems, from the validation loss.

    **Arguments:** `size`: RMS of the derivatives, for a learner that does not divide by their scale.

    **Returns:** None where the loss does not tell.
    """
    if loss is None or not learner.validates_adapted:
        return None
    error = math.sqrt(loss / learner.net.state_dim)  # the loss is summed over the coordinates
    if learner.scale == "task":
        return error
    return None if size is None else error / size
