"""Second-order outer loop: Levenberg-Marquardt on the heads' variable projection."""

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from meta_hamiltonian.basics.devices import sum_over_ranks
from meta_hamiltonian.episodes import Episodes, Points
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.learners.numerics.linear_head import head_columns, head_weights, own_head, present_rows

# After so many rises of the damping a meta-batch is given up: its step would be too small to matter.
_TRIALS = 10
_LESS, _MORE = 1 / 3, 4.0
_SMALLEST, _LARGEST = 1e-15, 1e6
# Points whose Jacobians are held at once.
_CHUNK = 1024


class LeastSquares(Protocol):
    """A sum of squares ‖r(θ)‖² as a function of the current parameters."""

    def loss(self) -> Float[Tensor, ""]:
        """‖r‖², or in proportion to it."""
        ...

    def normal_equations(self) -> tuple[Float[Tensor, "size size"], Float[Tensor, " size"]]:
        """JᵀJ and −Jᵀr, J the Jacobian of r."""
        ...


class LevenbergMarquardt(torch.optim.Optimizer):
    """Steps (JᵀJ + μ diag JᵀJ) δ = −Jᵀr that never raise the loss of the meta-batch that they are taken on.

    The damping μ falls after a step that is accepted and rises until one is.

    ??? cite "Reference"

        Marquardt: An algorithm for least-squares estimation of nonlinear parameters. SIAM Journal 11, 1963.
    """

    def __init__(self, params: Iterable[nn.Parameter], damping: float = 1e-2, lr: float = 1.0):
        """**Arguments:**

        - `params`: float64, in the order of [`LeastSquares`][]'s matrix; together at most a few thousand numbers.
        - `damping`: what μ starts from.
        - `lr`: the fraction of a step that is taken. Falling to zero, as a scheduler lets it, it averages over
            meta-batches: each step fits the noise of its own.
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
        before = problem.loss()
        if not before.isfinite():
            return before
        matrix, descent = problem.normal_equations()
        if not matrix.any():  # nothing depends on the parameters, where heads are made of plain features
            return before
        scale = matrix.diagonal().clone()
        scale += 1e-12 * scale.max()
        start = nn.utils.parameters_to_vector(parameters)
        for _ in range(_TRIALS):
            factor, failed = torch.linalg.cholesky_ex(matrix + torch.diag(group["damping"] * scale))
            if not failed:
                change = torch.cholesky_solve(descent[:, None], factor)[:, 0]
                nn.utils.vector_to_parameters(start + group["lr"] * change, parameters)
                if problem.loss() < before:
                    group["damping"] = max(_LESS * group["damping"], _SMALLEST)
                    return before
            group["damping"] = min(_MORE * group["damping"], _LARGEST)
        nn.utils.vector_to_parameters(start, parameters)
        return before


class VariableProjection:
    """The query residuals of a meta-batch as functions of the shared weights alone, the heads solved for.

    With B = A L on the support set and v its solution, a change dθ of the shared weights changes the prediction of
    a task's query points by

    J_query dθ − B_query (BᵀB + σ²)⁻¹ Bᵀ J_support dθ,

    where both J are Jacobians of the field at fixed v: point by point, and cheap. The term that is left out is as small
    as the support residuals (Kaufman).

    ??? cite "Reference"

        Golub, Pereyra: The differentiation of pseudo-inverses and nonlinear least squares problems whose variables
        separate. SIAM J. Numer. Anal. 10, 1973. Kaufman: A variable projection method for solving separable nonlinear
        least squares problems. BIT 15, 1975.
    """

    def __init__(self, learner: Ridge, episodes: Episodes):
        """**Arguments:** `episodes`: rescaled already, if the learner has a scale."""
        self.learner = learner
        self.episodes = episodes
        self.parameters = projected_parameters(learner)

    def loss(self) -> Float[Tensor, ""]:
        """The mean over the tasks of all devices."""
        losses = self.learner.task_losses(self.episodes)
        total, tasks = sum_over_ranks(torch.stack([losses.sum(), losses.new_tensor(len(losses))]))
        return total / tasks

    def normal_equations(self) -> tuple[Float[Tensor, "size size"], Float[Tensor, " size"]]:
        """JᵀJ and −Jᵀr, summed over the tasks of all devices."""
        if self.learner.estimates_prior and not self.learner.uses_body:
            size = sum(value.numel() for value in self.parameters.values())
            some = next(iter(self.parameters.values()))
            return some.new_zeros(size, size), some.new_zeros(size)
        points = self.episodes.support.x.shape[1] + self.episodes.query.x.shape[1]
        at_once = max(1, _CHUNK // points)
        matrix, descent = self._of_tasks(self.episodes[:at_once])
        for start in range(at_once, len(self.episodes), at_once):
            of_these = self._of_tasks(self.episodes[start : start + at_once])
            matrix += of_these[0]
            descent += of_these[1]
        order = self._order()
        return sum_over_ranks(matrix[order][:, order]), sum_over_ranks(descent[order])

    def _of_tasks(self, episodes: Episodes) -> tuple[Float[Tensor, "size size"], Float[Tensor, " size"]]:
        """Both for some of the tasks; the shared weights are those of the body, w₀ (output by output) and L.

        The field is A w with w = w₀ + L v, so that its rates along L are those along w₀ times v: products with A and
        with the body's Jacobian are all that is needed, whatever the number of columns of L.
        """
        learner, support, query = self.learner, episodes.support, episodes.query
        factor, noise = learner.prior_factor, learner.log_noise.exp()
        features, support_residual = learner.centred(support)
        design = features @ factor
        query_features, query_residual = learner.centred(query)
        query_design = query_features @ factor
        gram = design.mT @ design + noise * torch.eye(design.shape[-1], dtype=design.dtype, device=design.device)
        v = torch.linalg.solve(gram, design.mT @ support_residual)
        solved = torch.linalg.solve(gram, design.mT)

        # What a change of the shared weights changes, less what the heads make good of it.
        head = query_features - query_design @ (solved @ features)
        body = self._body(query, v) - torch.einsum(
            "tqk,tkop->tqop", query_design, torch.einsum("tks,tsop->tkop", solved, self._body(support, v))
        )
        residual = query_residual - query_design @ v
        if query.mask is not None:  # the loss is a mean over each task's own points
            weights = (query.x.shape[1] / query.counts).sqrt()[:, None, None]
            head, body, residual = weights * head, weights[..., None] * body, weights * residual

        flat = body.flatten(0, 2)
        by_head = torch.einsum("tqop,tqf->topf", body, head)
        of_head = head.mT @ head
        eye = torch.eye(v.shape[-1], dtype=v.dtype, device=v.device)
        body_head = by_head.sum(0).permute(1, 0, 2).flatten(1)
        body_factor = torch.einsum("topf,tro->pfr", by_head, v).flatten(1)
        head_head = torch.einsum("tfg,op->ofpg", of_head, eye).flatten(2).flatten(0, 1)
        head_factor = torch.einsum("tfg,tro->ofgr", of_head, v).flatten(2).flatten(0, 1)
        factor_factor = torch.einsum("tfg,trs->frgs", of_head, v @ v.mT).flatten(2).flatten(0, 1)
        matrix = torch.cat(
            [
                torch.cat([flat.mT @ flat, body_head, body_factor], dim=1),
                torch.cat([body_head.mT, head_head, head_factor], dim=1),
                torch.cat([body_factor.mT, head_factor.mT, factor_factor], dim=1),
            ]
        )
        left = head.mT @ residual  # [tasks, features, outputs]
        descent = torch.cat(
            [
                flat.mT @ residual.flatten(),
                left.sum(0).mT.flatten(),
                torch.einsum("tfo,tro->fr", left, v).flatten(),
            ]
        )
        return matrix, descent

    def _body(
        self, points: Points, v: Float[Tensor, "tasks rank outputs"]
    ) -> Float[Tensor, "tasks rows outputs weights"]:
        """∂f/∂θ of the body at fixed v; rows and outputs in the order of [`head_rows`][]."""
        net = self.learner.net
        tasks, count, _ = points.x.shape
        columns = self.learner.columns(v)[:, None].expand(-1, count, -1, -1)
        parts = net.body_jacobian(points.x.flatten(0, 1), columns.flatten(0, 1))
        rows = torch.cat([parts[name] for name in self._body_names], dim=-1)
        rows = present_rows(points, rows.reshape(tasks, -1, net.head.out_features * rows.shape[-1]))
        return rows.unflatten(2, (net.head.out_features, -1))

    @property
    def _body_names(self) -> list[str]:
        names = [name.removeprefix("net.") for name in self.parameters if name.startswith("net.")]
        return [name for name in names if not name.startswith("head.")]

    def _order(self) -> Int[Tensor, " size"]:
        """Where each of the parameters stands in the matrix of [`_of_tasks`][]."""
        net = self.learner.net
        places: dict[str, Tensor] = {}
        start = 0
        for name in self._body_names:
            places[f"net.{name}"] = torch.arange(start, start := start + net.get_parameter(name).numel())
        heads = head_columns(own_head(net)).mT
        place = torch.arange(start, start := start + heads.numel(), dtype=heads.dtype).reshape(heads.shape)
        places |= {f"net.{name}": value for name, value in head_weights(net, place.mT).items()}
        places["prior_factor"] = torch.arange(start, start + self.learner.prior_factor.numel())
        return torch.cat([places[name].flatten().long() for name in self.parameters]).to(heads.device)


def projected_parameters(learner: Ridge) -> dict[str, nn.Parameter]:
    """What the outer loop changes: all but σ², which is estimated, and but w₀ and L, where these are estimated too."""
    estimated = ("log_noise", "prior_factor", "net.head.") if learner.estimates_prior else ("log_noise",)
    return {name: value for name, value in learner.named_parameters() if not name.startswith(estimated)}
