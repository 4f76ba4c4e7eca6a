"""How many latents a family needs, decided by training with and without them."""

import copy
import logging
from typing import Any

import torch
from torch import Tensor

from meta_hamiltonian.episodes import Episodes
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.learners.numerics.directions import ENOUGH, WORTH
from meta_hamiltonian.learners.quality import POOR
from meta_hamiltonian.models.network import FieldNetwork
from meta_hamiltonian.training.levenberg_marquardt import LevenbergMarquardt, VariableProjection, projected_parameters

log = logging.getLogger(__name__)

# Numbers of latents that are tried, beyond those that tell where the singularities of the domain are.
_TRIED = (1, 2)
# Held-out members that they are compared on at most: with latents, adaptation to each takes a part of a second.
_COMPARED = 50


class Race:
    """Learners with different numbers of latents, trained side by side on the same meta-batches.

    Latents are taken where they make the loss of held-out members several times smaller. The learner without them
    takes the very steps that it would take alone, so that a family that needs none loses nothing but the time of the
    race; and where its loss is as small as anybody measures, the race is over.
    """

    def __init__(self, learner: Ridge, damping: float):
        """**Arguments:**

        - `learner`: the one without latents, as training begins.
        - `damping`: the initial damping of the others' steps.
        """
        self.learner = learner
        places = _places(learner.net)
        self.counts = [places] if places else list(_TRIED)
        self.others = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # their first weights; those of the learner are the ones that it has without a race
            for count in self.counts:
                other = copy.deepcopy(learner)
                other.set_latents(count)
                self.others.append(other)
        self.optimizers = [LevenbergMarquardt(projected_parameters(other).values(), damping) for other in self.others]

    def step(self, batch: Episodes, length: float) -> None:
        """One step of each of the other learners.

        **Arguments:** `batch`: in units of its scale; `length`: the part of a step that is taken.
        """
        for other, optimizer in zip(self.others, self.optimizers, strict=True):
            optimizer.param_groups[0]["lr"] = length
            problem = VariableProjection(other, batch)
            optimizer.step(lambda problem=problem: problem)
            assert problem.z is not None
            other.standardise(problem.z)

    @torch.no_grad()
    def decide(self, held_out: Episodes, optimizer: LevenbergMarquardt, spare: int = 0) -> None:
        """Makes the learner the one that has won, in place, with the damping of its steps.

        Each has found first how many columns its heads need, where `rank` is auto: more columns often do what a latent
        would, and cost less.

        **Arguments:**

        - `held_out`: what they are compared on.
        - `optimizer`: the learner's.
        - `spare`: as of [`find_rank`][meta_hamiltonian.learners.held_out_heads.HeldOutHeads.find_rank].
        """
        losses = [_loss(self.learner, held_out)]
        losses += [find_columns(other, held_out, spare) for other in self.others]
        best = 0
        for i in range(1, len(losses)):
            if losses[i] * WORTH < losses[best] and losses[best] > ENOUGH:
                best = i
        tried = ", ".join(f"{loss:.2g} with {count}" for loss, count in zip(losses, [0, *self.counts], strict=True))
        count = [0, *self.counts][best]
        log.info(f"Latents: {count or 'none'} (loss of held-out members: {tried}).")
        if best:
            winner = self.others[best - 1]
            self.learner.set_latents(count)
            self.learner.load_state_dict(winner.state_dict())
            optimizer.param_groups[0]["damping"] = self.optimizers[best - 1].param_groups[0]["damping"]

    def state(self) -> dict[str, Any]:
        """The state of an undecided race, for a checkpoint."""
        return {
            "weights": [other.state_dict() for other in self.others],
            "damping": [optimizer.param_groups[0]["damping"] for optimizer in self.optimizers],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Takes up an undecided race again."""
        for other, weights in zip(self.others, state["weights"], strict=True):
            other.load_state_dict(weights)
        for optimizer, damping in zip(self.optimizers, state["damping"], strict=True):
            optimizer.param_groups[0]["damping"] = damping


@torch.no_grad()
def find_columns(learner: Ridge, held_out: Episodes, spare: int) -> float:
    """Finds how many columns heads beside latents need, where `rank` is auto, unless that makes members worse.

    Columns are compared at the latents that members have with the columns of now. With others, which the learner was
    not trained with, members may be led to latents that no member has.

    **Arguments:** as those of [`find_rank`][meta_hamiltonian.learners.held_out_heads.HeldOutHeads.find_rank].

    **Returns:** the loss of held-out members that are adapted.
    """
    loss = _loss(learner, held_out)
    if not learner.finds_rank:
        return loss
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    rank = learner.rank
    learner.find_rank(held_out, spare)
    after = _loss(learner, held_out)
    allowed = loss
    if learner.rank < rank:
        # Fewer columns may be a little worse where heads serve. Where a body has learned nothing yet, one column is
        # about as bad as six: fewer then have to be much better.
        allowed = min(WORTH * loss, max(learner.net.state_dim * POOR**2, loss / WORTH))
    if after < allowed:
        return after
    learner.load_state_dict(before)
    return loss


def _loss(learner: Ridge, held_out: Episodes) -> float:
    some = held_out[:_COMPARED]
    learner.calibrate(some)
    return learner.validation_loss(some).item()


def is_enough(loss: Tensor) -> bool:
    """Whether a learner without latents is so good that they cannot be needed."""
    return loss.item() <= ENOUGH


def _places(net: FieldNetwork) -> int:
    inputs: Any = getattr(net, "inputs", None)
    return inputs.places if inputs is not None else 0
