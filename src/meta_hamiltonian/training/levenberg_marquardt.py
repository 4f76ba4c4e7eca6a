"""Second-order outer loop: Levenberg-Marquardt on the heads' variable projection."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from meta_hamiltonian.basics.devices import sum_over_ranks
from meta_hamiltonian.episodes import Episodes, Points
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.learners.numerics.gram import cholesky_solve, gram_of, ridge_factor
from meta_hamiltonian.learners.numerics.linear_head import balanced, head_columns, head_weights, own_head, present_rows

# After so many rises of the damping a meta-batch is given up, since its step would be too small to matter.
_TRIALS = 10
_LESS, _MORE = 1 / 3, 4.0
# The latents of a task whose loss is so many times that of the median task were not found.
_NOT_FOUND = 1e4
_SMALLEST, _LARGEST = 1e-15, 1e6
# On a CPU, points whose Jacobians are held at once, and numbers of features, which fit into its cache; of a GPU's
# memory, the part that Jacobians may take, and how many numbers are held for each of theirs.
_CHUNK = 1024
_NUMBERS = 2**21
_PART_OF_MEMORY, _ARRAYS = 0.25, 3


class NormalEquations(NamedTuple):
    """The linearised problem of a step.

    - `loss`: as [`LeastSquares.loss`][] gives it.
    - `matrix`, `descent`: JᵀJ and −Jᵀr, J the Jacobian of the residuals r; empty where nothing is to be changed.
    """

    loss: Float[Tensor, ""]
    matrix: Float[Tensor, "size size"]
    descent: Float[Tensor, " size"]


class LeastSquares(Protocol):
    """A sum of squares ‖r(θ)‖² as a function of the current parameters."""

    def loss(self) -> Float[Tensor, ""]:
        """‖r‖², or in proportion to it."""
        ...

    def normal_equations(self) -> "NormalEquations":
        """The normal equations and the loss, at the current parameters."""
        ...


@dataclasses.dataclass(frozen=True)
class Unchanged:
    """The problem of a law that no step changes, with a loss that is known."""

    known: Float[Tensor, ""]

    def loss(self) -> Float[Tensor, ""]:
        """As it was given."""
        return self.known

    def normal_equations(self) -> NormalEquations:
        """Those of no parameters."""
        return NormalEquations(self.known, self.known.new_zeros(0, 0), self.known.new_zeros(0))


class LevenbergMarquardt(torch.optim.Optimizer):
    """Equation (8): steps (JᵀJ + μ diag JᵀJ) δ = −Jᵀr that never raise the loss of the meta-batch they are taken on.

    The damping μ falls after each accepted step and rises after each rejected one.

    ??? cite "Reference"

        Marquardt: An algorithm for least-squares estimation of nonlinear parameters. SIAM Journal 11, 1963.
    """

    def __init__(self, params: Iterable[nn.Parameter], damping: float = 1e-2, lr: float = 1.0):
        """**Arguments:**

        - `params`: float64, in the order of [`LeastSquares`][]'s matrix; together at most a few thousand numbers.
        - `damping`: the initial μ.
        - `lr`: the fraction of a step that is taken. Each step fits the noise of its own meta-batch; a fraction that
            falls to zero, by a scheduler, averages over meta-batches.
        """
        super().__init__(params, {"damping": damping, "lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], LeastSquares]) -> Float[Tensor, ""]:  # pyright: ignore
        """**Arguments:** `closure`: gives the problem of this meta-batch.

        **Returns:** the loss before the step.
        """
        problem = closure()
        (group,) = self.param_groups
        parameters: list[nn.Parameter] = group["params"]
        before, matrix, descent = problem.normal_equations()
        if not len(descent):
            return before
        scale = matrix.diagonal().clone()
        scale += 1e-12 * scale.max()
        start = nn.utils.parameters_to_vector(parameters)
        for _ in range(_TRIALS):
            damped = matrix.clone()
            damped.diagonal().add_(scale, alpha=group["damping"])
            factor, failed = torch.linalg.cholesky_ex(damped)
            change = torch.cholesky_solve(descent[:, None], factor)[:, 0]
            _set(parameters, start.add(change, alpha=group["lr"]))
            lower = (failed == 0) & (problem.loss() < before)
            # The one moment of a step at which it waits for the device.
            lower, finite, moves = torch.stack([lower, before.isfinite(), change.any()]).tolist()
            if lower:
                group["damping"] = max(_LESS * group["damping"], _SMALLEST)
                return before
            if not finite or not moves:
                break
            group["damping"] = min(_MORE * group["damping"], _LARGEST)
        _set(parameters, start)
        return before


def _set(parameters: Sequence[nn.Parameter], values: Float[Tensor, " size"]) -> None:
    """Gives the parameters these values, in place."""
    for parameter, part in zip(parameters, values.split([value.numel() for value in parameters]), strict=True):
        parameter.copy_(part.view_as(parameter))


class VariableProjection:
    """The query residuals of a meta-batch as functions of the shared weights alone, the heads solved for.

    With B = A L on the support set and v its solution, a change dθ of the shared weights changes the prediction of
    a task's query points by, equation (7),

    J_query dθ − B_query (BᵀB + σ²)⁻¹ Bᵀ J_support dθ,

    where both J are Jacobians of the field at fixed v, which are cheap since points are independent. The term that is
    left out is as small as the support residuals (Kaufman).

    ??? cite "Reference"

        Golub, Pereyra: The differentiation of pseudo-inverses and nonlinear least squares problems whose variables
        separate. SIAM J. Numer. Anal. 10, 1973. Kaufman: A variable projection method for solving separable nonlinear
        least squares problems. BIT 15, 1975.
    """

    def __init__(self, learner: Ridge, episodes: Episodes):
        """**Arguments:** `episodes`: rescaled already, if the learner has a scale."""
        self.learner = learner
        self.parameters = projected_parameters(learner)
        self.episodes, self.z = _found(learner, episodes) if learner.net.latents else (episodes, None)

    def loss(self) -> Float[Tensor, ""]:
        """The mean over the tasks of all devices."""
        parts = self._parts(self._losses_at_once())
        return self._mean([self.learner.task_losses(self.episodes[part], self._near(part)).sum() for part in parts])

    def _near(self, part: slice) -> Float[Tensor, "tasks latents"] | None:
        """The latents of some tasks for the weights that the step begins with."""
        return None if self.z is None else self.z[part]

    def normal_equations(self) -> NormalEquations:
        """The mean loss over the tasks of all devices; JᵀJ and −Jᵀr, summed over them."""
        if not self.learner.uses_body:  # heads of features without hidden units come from `find_prior` alone
            return Unchanged(self.loss()).normal_equations()
        first, *others = self._parts(self._tasks_at_once())
        loss, matrix, descent = self._of_tasks(first)
        losses = [loss]
        for part in others:
            of_these = self._of_tasks(part)
            losses.append(of_these.loss)
            matrix += of_these.matrix
            descent += of_these.descent
        order = self._order(matrix.device)
        matrix, descent = sum_over_ranks(matrix[order[:, None], order]), sum_over_ranks(descent[order])
        return NormalEquations(self._mean(losses), matrix, descent)

    def _mean(self, losses: list[Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """The mean loss over the tasks of all devices, from the sums over parts of the tasks."""
        total = torch.stack(losses).sum()
        total, tasks = sum_over_ranks(torch.stack([total, total.new_full((), len(self.episodes))]))
        return total / tasks

    def _parts(self, most: int) -> list[slice]:
        """The tasks in parts of about the same size."""
        tasks = len(self.episodes)
        at_once = math.ceil(tasks / math.ceil(tasks / most))
        return [slice(start, start + at_once) for start in range(0, tasks, at_once)]

    def _losses_at_once(self) -> int:
        """As many tasks as have features that fit into a CPU's cache; on a GPU, all."""
        support, query = self.episodes.support.x, self.episodes.query.x
        each = (support[0].numel() + query[0].numel()) * self.learner.net.head.in_features
        return len(self.episodes) if query.is_cuda else max(1, _NUMBERS // each)

    def _tasks_at_once(self) -> int:
        """As many tasks as fit into a CPU's cache; on a GPU, as many as fit into a part of its memory."""
        points = self.episodes.support.x.shape[1] + self.episodes.query.x.shape[1]
        x, net = self.episodes.query.x, self.learner.net
        if not x.is_cuda:
            return max(1, _CHUNK // points)
        body = sum(self.parameters[f"net.{name}"].numel() for name in self._body_names)
        products = _ARRAYS * points * net.state_dim + net.head.weight.numel()
        memory = torch.cuda.get_device_properties(x.device).total_memory
        return max(1, int(_PART_OF_MEMORY * memory) // (x.element_size() * body * products))

    def _of_tasks(self, part: slice) -> NormalEquations:
        """The normal equations of some of the tasks, whose losses are added up.

        The weights are those of the body, and then those of [w₀ L], row by row.

        The field is A w with w = [w₀ L] u and u = (1, v), so that its rates along [w₀ L] are those along w times u:
        products with A and with the body's Jacobian are all that is needed, whatever the number of columns of L.
        """
        learner, episodes, z = self.learner, self.episodes[part], self._near(part)
        query = episodes.query
        (features, residual), (query_features, query_residual) = learner.both_centred(episodes, z)
        design, query_design = features @ learner.prior_factor, query_features @ learner.prior_factor
        gram = ridge_factor(design.mT @ design, learner.log_noise.exp())
        solved = cholesky_solve(gram, torch.cat([design.mT, design.mT @ residual], dim=-1))
        solved, v = solved.split([design.shape[1], residual.shape[2]], dim=-1)
        left = query_residual - query_design @ v
        if z is not None:
            square = (residual - design @ v).square().sum((1, 2)) + learner.log_noise.exp() * v.square().sum((1, 2))
            noise = square / (learner.net.state_dim * episodes.support.counts) + learner.log_noise.exp()
            columns = learner.columns(v)
            design = torch.cat([design, learner.latent_rows(episodes.support, z, columns)], dim=-1)
            query_design = torch.cat([query_design, learner.latent_rows(query, z, columns)], dim=-1)
            ridges = torch.cat([learner.log_noise.exp().expand_as(v[..., 0]), noise[:, None].expand_as(z)], dim=-1)
            solved = cholesky_solve(ridge_factor(design.mT @ design + ridges.diag_embed(), 0.0), design.mT)

        # The effect of a change of the shared weights, without the part that the members' own unknowns make good.
        support_body, query_body = self._body(episodes, v, z)
        head = torch.baddbmm(query_features, query_design, solved @ features, alpha=-1)
        body = torch.baddbmm(query_body, query_design, solved @ support_body, alpha=-1)
        if query.mask is not None:  # the loss is a mean over each task's own points
            weights = (query.x.shape[1] / query.counts).sqrt()[:, None, None]
            head, body, left = weights * head, weights * body, weights * left

        tasks, outputs = len(v), v.shape[-1]
        u = torch.cat([torch.eye(outputs, dtype=v.dtype, device=v.device).expand(tasks, -1, -1), v], dim=1)
        flat = body.reshape(tasks * body.shape[1] * outputs, -1)
        by_head = (body.mT @ head).unflatten(1, (outputs, -1))
        along = head.mT @ left  # [tasks, features, outputs]
        body_head = torch.einsum("topf,tro->pfr", by_head, u).flatten(1)
        head_head = torch.einsum("tfg,trs->frgs", head.mT @ head, u @ u.mT).flatten(2).flatten(0, 1)
        matrix = torch.cat([torch.cat([gram_of(flat), body_head], dim=1), torch.cat([body_head.mT, head_head], dim=1)])
        descent = torch.cat([flat.mT @ left.flatten(), torch.einsum("tfo,tro->fr", along, u).flatten()])
        return NormalEquations(left.square().sum() / query.x.shape[1], matrix, descent)

    def _body(
        self, episodes: Episodes, v: Float[Tensor, "tasks rank outputs"], z: Float[Tensor, "tasks latents"] | None
    ) -> tuple[Float[Tensor, "tasks rows weights"], Float[Tensor, "tasks query_rows weights"]]:
        """∂f/∂θ of the body at fixed v and z on both sets."""
        support, query = episodes.support, episodes.query
        if not query.x.is_cuda:
            return self._body_rows(support, v, z), self._body_rows(query, v, z)
        rows = self._body_rows(Points.joined(support, query), v, z)
        each = rows.shape[1] // (support.x.shape[1] + query.x.shape[1])
        return rows[:, : each * support.x.shape[1]], rows[:, each * support.x.shape[1] :]

    def _body_rows(
        self, points: Points, v: Float[Tensor, "tasks rank outputs"], z: Float[Tensor, "tasks latents"] | None
    ) -> Float[Tensor, "tasks rows weights"]:
        """∂f/∂θ in the rows of [`head_rows`][], with a column for each weight."""
        net = self.learner.net
        tasks, count, _ = points.x.shape
        columns = self.learner.columns(v)[:, None].expand(-1, count, -1, -1)
        x = net.beside(points.x, {} if z is None else {"latents": z})
        rows = net.body_jacobian(x.flatten(0, 1), columns.flatten(0, 1))
        present = present_rows(points, rows.reshape(tasks, -1, net.head.out_features * rows.shape[-1]))
        return balanced(net, present)

    @property
    def _body_names(self) -> list[str]:
        names = [name.removeprefix("net.") for name in self.parameters if name.startswith("net.")]
        return [name for name in names if not name.startswith("head.")]

    def _order(self, device: torch.device) -> Int[Tensor, " size"]:
        """Where each of the parameters stands in the matrix of [`_of_tasks`][]."""
        net = self.learner.net
        sizes = [self.parameters[f"net.{name}"].numel() for name in self._body_names]
        features, outputs = head_columns(own_head(net)).shape
        heads = features * (outputs + self.learner.rank)
        all_places = torch.arange(sum(sizes) + heads, dtype=torch.float64, device=device)  # as if they were weights
        *body, head = all_places.split([*sizes, heads])
        places = {f"net.{name}": place for name, place in zip(self._body_names, body, strict=True)}
        w0, factor = head.view(features, -1).split([outputs, self.learner.rank], dim=1)
        places |= {f"net.{name}": place for name, place in head_weights(net, w0).items()}
        places["prior_factor"] = factor
        return torch.cat([places[name].flatten() for name in self.parameters]).long()


@torch.no_grad()
def _found(learner: Ridge, episodes: Episodes) -> tuple[Episodes, Float[Tensor, "tasks latents"]]:
    """The tasks whose latents were found, and these.

    A search may end at latents that do not belong to a task. Its loss then outweighs those of all others together, and
    a step that lowers it undoes what they have taught the body: Kepler with an unknown centre went from 1e-6 to 0.06.
    """
    z = learner.find_latents(episodes.support)
    losses = learner.task_losses(episodes, z)
    usual = losses.nanmedian()
    if not usual.isfinite():  # no body to speak of: the step is skipped
        return episodes, z
    (found,) = (losses <= _NOT_FOUND * usual).nonzero(as_tuple=True)
    return episodes[found], z[found]


def projected_parameters(learner: Ridge) -> dict[str, nn.Parameter]:
    """The parameters that the outer loop changes: all but σ², which is estimated."""
    return {name: value for name, value in learner.named_parameters() if name != "log_noise"}
