"""Levenberg-Marquardt steps of wide networks by conjugate gradients, beside the direct solve and Adam.

`python tests/benchmarks/conjugate_gradients.py equal` compares products with JᵀJ, and the steps, with the matrix;
`... cg30|cg100|direct|adam1e-3 WIDTH SECONDS` trains a network of two layers for so many seconds of the process.
"""

import sys
import time

import torch

from meta_hamiltonian.episodes import Points, sample_episodes
from meta_hamiltonian.learners import Ridge
from meta_hamiltonian.learners.loss import rescaled
from meta_hamiltonian.learners.numerics.gram import cholesky_solve, ridge_factor
from meta_hamiltonian.models import HamiltonianNetwork
from meta_hamiltonian.systems import Pendulum
from meta_hamiltonian.training.levenberg_marquardt import LevenbergMarquardt, VariableProjection, projected_parameters

SYSTEM, TASKS = Pendulum(), 16
# Random signs whose products tell the diagonal of JᵀJ; steps that are tried.
PROBES, TRIALS = 8, 5


def learner(width):
    torch.manual_seed(0)
    net = HamiltonianNetwork(width=width, depth=2, activation="sin", domain=SYSTEM.domain, inputs="raw")
    return Ridge(net, rank=6, noise=1e-10, scale="task").double()


def batch(i, tasks=TASKS, split="train"):
    which = range(i * tasks, (i + 1) * tasks)
    return rescaled(sample_episodes(SYSTEM, which, 50, 50, 0, split, torch.float64))


class Features(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net.field_features(x).flatten(x.dim() - 2, -2)


class Products:
    """J x and Jᵀ y of equation (7), by automatic differentiation of the fields at fixed heads."""

    def __init__(self, of, episodes):
        own = {name: value.detach().clone().requires_grad_() for name, value in projected_parameters(of).items()}
        self.parameters = list(own.values())
        with torch.no_grad():
            (features, residual), (query_features, query_residual) = of.both_centred(episodes)
            self.design, self.query_design = features @ of.prior_factor, query_features @ of.prior_factor
            self.factor = ridge_factor(self.design.mT @ self.design, of.log_noise.exp())
            v = cholesky_solve(self.factor, self.design.mT @ residual)
            self.left = query_residual - self.query_design @ v
        x = Points.joined(episodes.support, episodes.query).x
        body = {name: value for name, value in own.items() if name.startswith("net.body")}
        rows = torch.func.functional_call(Features(of.net), body, (x,))
        self.fields = rows @ (own["net.head.weight"].mT + own["prior_factor"] @ v)
        self.along = torch.zeros_like(self.fields, requires_grad=True)
        self.back = torch.autograd.grad(self.fields, self.parameters, self.along, create_graph=True)

    def forth(self, change):
        parts = change.split([value.numel() for value in self.parameters])
        parts = [part.view_as(value) for part, value in zip(parts, self.parameters, strict=True)]
        (found,) = torch.autograd.grad(self.back, self.along, parts, retain_graph=True)
        support, query = found.chunk(2, dim=1)
        return query - self.query_design @ cholesky_solve(self.factor, self.design.mT @ support)

    def transposed(self, rows):
        support = -self.design @ cholesky_solve(self.factor, self.query_design.mT @ rows)
        both = torch.cat([support, rows], dim=1)
        found = torch.autograd.grad(self.fields, self.parameters, both, retain_graph=True)
        return torch.cat([value.flatten() for value in found])

    def diagonal(self):
        generator = torch.Generator().manual_seed(0)
        signs = [2.0 * torch.randint(0, 2, self.left.shape, generator=generator).double() - 1 for _ in range(PROBES)]
        return torch.stack([self.transposed(sign).square() for sign in signs]).mean(0)


def solved(products, damping, scale, descent, iterations):
    """(JᵀJ + μ D) δ = −Jᵀr by conjugate gradients, preconditioned by D."""
    change, left = torch.zeros_like(descent), descent.clone()
    scaled = left / scale
    direction, size = scaled.clone(), left @ scaled
    for _ in range(iterations):
        product = products.transposed(products.forth(direction)) + damping * scale * direction
        length = size / (direction @ product)
        change, left = change + length * direction, left - length * product
        scaled = left / scale
        before, size = size, left @ scaled
        direction = scaled + size / before * direction
    return change


class ConjugateGradients:
    def __init__(self, of, iterations):
        self.of, self.iterations, self.damping = of, iterations, 1e-2

    def step(self, episodes):
        problem, products = VariableProjection(self.of, episodes), Products(self.of, episodes)
        weights = list(problem.parameters.values())
        descent, scale = products.transposed(products.left), products.diagonal()
        scale = scale + 1e-12 * scale.max()
        start = torch.nn.utils.parameters_to_vector(weights).detach().clone()
        with torch.no_grad():
            before = problem.loss()
            for _ in range(TRIALS):
                change = solved(products, self.damping, scale, descent, self.iterations)
                torch.nn.utils.vector_to_parameters(start + change, weights)
                if problem.loss() < before:
                    self.damping = max(self.damping / 3, 1e-15)
                    return
                self.damping *= 4
            torch.nn.utils.vector_to_parameters(start, weights)


def equal():
    of, episodes = learner(8), batch(0, 10)
    with torch.no_grad():
        _, matrix, descent = VariableProjection(of, episodes).normal_equations()
    products = Products(of, episodes)
    own, some = products.transposed(products.left), torch.randn_like(descent)
    print(f"Jᵀr: {(own - descent).norm() / descent.norm():.1e}", end=", ")
    product = products.transposed(products.forth(some))
    print(f"JᵀJ x: {(product - matrix @ some).norm() / (matrix @ some).norm():.1e}, P = {len(descent)}")
    scale, damping = matrix.diagonal(), 1e-2
    direct = torch.linalg.solve(matrix + damping * scale.diag(), descent)
    for iterations in (10, 30, 100, 200):
        found = solved(products, damping, scale, descent, iterations)
        print(f"{iterations} iterations: the step is off by {(found - direct).norm() / direct.norm():.1e}")


def compare(what, width, seconds):
    of = learner(width)
    weights = list(projected_parameters(of).values())
    if what == "direct":
        optimizer = LevenbergMarquardt(weights)
        step = lambda episodes: optimizer.step(lambda: VariableProjection(of, episodes))  # noqa: E731
    elif what.startswith("cg"):
        step = ConjugateGradients(of, int(what[2:])).step
    else:
        adam = torch.optim.Adam(weights, lr=float(what.removeprefix("adam")))

        def step(episodes):
            adam.zero_grad()
            of.task_losses(episodes).mean().backward()
            adam.step()

    spent, steps = 0.0, 0
    while spent < seconds:
        episodes = batch(steps)
        began = time.process_time()
        step(episodes)
        spent, steps = spent + time.process_time() - began, steps + 1
    with torch.no_grad():
        loss = of.task_losses(batch(0, 50, "val")).mean().item()
    count = sum(value.numel() for value in weights)
    print(f"{what}, width {width}, P = {count}: {steps} steps of {spent / steps:.3f} s, held-out loss {loss:.2g}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    equal() if sys.argv[1] == "equal" else compare(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
