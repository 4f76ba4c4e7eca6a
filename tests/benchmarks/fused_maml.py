"""MAML's second-order step in fused Triton kernels: a candidate, to be measured by `gpu_steps.py fused` on a GPU.

It computes what `learners/numerics/hessian.py` writes out, in that file's notation, for networks of tanh in float32.
There each matrix product is a call of its own, and the arrays between the products travel through the GPU's memory.
Here three kernels do all of it:

- `gradient_rows` takes a block of a task's points through the whole chain: forward (h), back to the input (g), along ρ
  (t), and back (q). It writes these arrays down, one "tape" for each inner step.
- `hessian_rows` does the same for R{·}, the derivative of all this along a vector.
- `sums` makes the gradient, or the Hessian's product, from the tapes: the products that sum over the points.

Products run on tensor cores. Each factor is split into two numbers of TF32, a = a′ + a″, and the three products
a′b′ + a′b″ + a″b′ give full float32: what is left out is below 2⁻²².

`TRITON_INTERPRET=1` runs the kernels on a CPU, without a GPU. `python tests/benchmarks/fused_maml.py` compiles them for
a GPU that need not be there, and prints their registers and instructions.
"""

import math
import os
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import torch
import triton
import triton.language as tl

from meta_hamiltonian.dynamics import hamiltonian_field
from meta_hamiltonian.learners import MAML
from meta_hamiltonian.models.activations import ACTIVATIONS

# Values of a layer that a program of the chains holds at once, its warps, and the most registers of a thread.
VALUES, WARPS, REGISTERS = 2048, 8, None
# Others that `gpu_steps.py` measures beside it: more programs fit side by side, but each multiplies smaller blocks.
OTHERS = ((1024, 8, 128), (1024, 4, None), (4096, 8, None))
# How many arrays of the size of a layer's values both kinds of tape hold for each layer.
ON_TAPE, ON_R_TAPE = 5, 4
INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


@triton.jit
def _tanh(a):
    return 2 * tl.sigmoid(2 * a) - 1


@triton.jit
def _kept_here(a):
    """The same values. The compiler neither moves nor repeats what comes before across this line.

    Without it, activations are computed anew by every warp that multiplies by them, and factors that have been split
    stay in registers from their first product to their last.
    """
    if INTERPRETED:
        return a
    else:
        return tl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [a], dtype=tl.float32, is_pure=False, pack=1)


@triton.jit
def _tf32(a):
    """The nearest number with 10 bits behind the point."""
    return ((a.to(tl.int32, bitcast=True) + 0x1000) & -8192).to(tl.float32, bitcast=True)


@triton.jit
def _product(a, b, plus=None):
    """a b + plus in float32."""
    a = _kept_here(a)
    a_large = _tf32(a)
    b_large = _tf32(b)
    plus = tl.dot(a - a_large, b_large, plus, input_precision="tf32")
    plus = tl.dot(a_large, b - b_large, plus, input_precision="tf32")
    return tl.dot(a_large, b_large, plus, input_precision="tf32")


@triton.jit
def _vector(weights, unit, WIDTH: tl.constexpr, UNITS: tl.constexpr):
    """[units], 0 beyond the width."""
    if WIDTH == UNITS:
        return tl.load(weights + unit)
    else:
        return tl.load(weights + unit, mask=unit < WIDTH, other=0.0)


@triton.jit
def _of_input(weights, unit, d, DIM: tl.constexpr, WIDTH: tl.constexpr, UNITS: tl.constexpr):
    """The column of W_1 for input d: [1, units]."""
    if WIDTH == UNITS:
        return tl.load(weights + unit * DIM + d)[None, :]
    else:
        return tl.load(weights + unit * DIM + d, mask=unit < WIDTH, other=0.0)[None, :]


@triton.jit
def _matrix(weights, row, column, row_stride, column_stride, WIDTH: tl.constexpr, UNITS: tl.constexpr):
    """[units, units]"""
    at = weights + row[:, None] * row_stride + column[None, :] * column_stride
    if WIDTH == UNITS:
        return tl.load(at)
    else:
        return tl.load(at, mask=(row[:, None] < WIDTH) & (column[None, :] < WIDTH), other=0.0)


@triton.jit
def _weight(weights, unit, WIDTH: tl.constexpr, UNITS: tl.constexpr):
    """W, for products back to the input."""
    return _matrix(weights, unit, unit, WIDTH, 1, WIDTH, UNITS)


@triton.jit
def _weight_t(weights, unit, WIDTH: tl.constexpr, UNITS: tl.constexpr):
    """Wᵀ, for products forward."""
    return _matrix(weights, unit, unit, 1, WIDTH, WIDTH, UNITS)


# A task's weights, one after the other: W_1 [width, inputs], b_1, then W_l [width, width], b_l for l = 2 ... L, then w.
# A tape is [parts, layers, points, width] for each task.


@triton.jit
def gradient_rows(
    theta,
    of_task,  # the distance of two tasks' weights, 0 where all have the same
    x,
    target,
    factor,
    scale,
    tape,  # h, t, g, q, ∂q/∂a
    rho,
    losses,
    POINTS: tl.constexpr,
    DIM: tl.constexpr,
    DEPTH: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
):
    LAYER: tl.constexpr = WIDTH * WIDTH + WIDTH
    TILE: tl.constexpr = POINTS * WIDTH
    PART: tl.constexpr = DEPTH * TILE
    BLOCKS: tl.constexpr = (POINTS + ROWS - 1) // ROWS
    TOP: tl.constexpr = DEPTH - 1
    task = (tl.program_id(0) // BLOCKS).to(tl.int64)
    point = tl.program_id(0) % BLOCKS * ROWS + tl.arange(0, ROWS)
    there = point < POINTS
    unit = tl.arange(0, UNITS)
    theta += task * of_task
    above = theta + WIDTH * (DIM + 1)  # W_2
    head = above + TOP * LAYER
    state = task * (POINTS * DIM) + point * DIM
    tile = tape + task * (5 * PART) + point[:, None] * WIDTH + unit[None, :]
    mask = there[:, None] & (unit[None, :] < WIDTH)

    a = tl.broadcast_to(_vector(theta + WIDTH * DIM, unit, WIDTH, UNITS)[None, :], (ROWS, UNITS))
    for d in tl.static_range(DIM):
        x_d = tl.load(x + state + d, mask=there, other=0.0)[:, None]
        a += x_d * _of_input(theta, unit, d, DIM, WIDTH, UNITS)
    h = (_tanh(a),)
    for i in tl.static_range(TOP):
        weights = above + i * LAYER
        tl.store(tile + i * TILE, h[i], mask=mask)
        a = _product(h[i], _weight_t(weights, unit, WIDTH, UNITS))
        h = h + (_tanh(a + _vector(weights + WIDTH * WIDTH, unit, WIDTH, UNITS)[None, :]),)
    tl.store(tile + TOP * TILE, h[TOP], mask=mask)

    u = (tl.broadcast_to(_vector(head, unit, WIDTH, UNITS)[None, :], (ROWS, UNITS)),)
    for i in tl.static_range(TOP - 1, -1, -1):
        g = u[0] * (1 - h[i + 1] * h[i + 1])
        tl.store(tile + 2 * PART + (i + 1) * TILE, g, mask=mask)
        u = (_product(g, _weight(above + i * LAYER, unit, WIDTH, UNITS)),) + u
    g = u[0] * (1 - h[0] * h[0])
    tl.store(tile + 2 * PART, g, mask=mask)

    factor_of = tl.load(factor + task * POINTS + point, mask=there, other=0.0)  # 2 / points
    loss = tl.zeros([ROWS], tl.float32)
    along = tl.zeros([ROWS, UNITS], tl.float32)
    for d in tl.static_range(DIM):
        w_d = _of_input(theta, unit, d, DIM, WIDTH, UNITS)
        scale_d = tl.load(scale + d)
        error = tl.sum(g * w_d, 1) * scale_d + tl.load(target + state + d, mask=there, other=0.0)
        loss += 0.5 * factor_of * error * error
        rho_d = factor_of * error * scale_d
        tl.store(rho + state + d, rho_d, mask=there)
        along += rho_d[:, None] * w_d
    tl.store(losses + task * POINTS + point, loss, mask=there)

    c = (along,)
    for i in tl.static_range(TOP):
        t = (1 - h[i] * h[i]) * c[i]
        tl.store(tile + PART + i * TILE, t, mask=mask)
        c = c + (_product(t, _weight_t(above + i * LAYER, unit, WIDTH, UNITS)),)
    tl.store(tile + PART + TOP * TILE, (1 - h[TOP] * h[TOP]) * c[TOP], mask=mask)

    back = tl.zeros([ROWS, UNITS], tl.float32)
    for i in tl.static_range(TOP, -1, -1):
        slope = 1 - h[i] * h[i]
        second = -2 * h[i] * slope
        uc = u[i] * c[i]
        q = second * uc + slope * back
        tl.store(tile + 3 * PART + i * TILE, q, mask=mask)
        tl.store(tile + 4 * PART + i * TILE, slope * (4 - 6 * slope) * uc + second * back, mask=mask)
        if i > 0:
            back = _product(q, _weight(above + (i - 1) * LAYER, unit, WIDTH, UNITS))


@triton.jit
def hessian_rows(
    theta,
    of_task,
    vector,
    x,
    factor,
    scale,
    tape,
    rho,
    r_tape,  # R{h}, R{t}, R{g}, R{q}
    r_rho,
    POINTS: tl.constexpr,
    DIM: tl.constexpr,
    DEPTH: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
):
    LAYER: tl.constexpr = WIDTH * WIDTH + WIDTH
    SIZE: tl.constexpr = WIDTH * (DIM + 2) + (DEPTH - 1) * LAYER
    TILE: tl.constexpr = POINTS * WIDTH
    PART: tl.constexpr = DEPTH * TILE
    BLOCKS: tl.constexpr = (POINTS + ROWS - 1) // ROWS
    TOP: tl.constexpr = DEPTH - 1
    task = (tl.program_id(0) // BLOCKS).to(tl.int64)
    point = tl.program_id(0) % BLOCKS * ROWS + tl.arange(0, ROWS)
    there = point < POINTS
    unit = tl.arange(0, UNITS)
    theta += task * of_task
    vector += task * SIZE
    above, v_above = theta + WIDTH * (DIM + 1), vector + WIDTH * (DIM + 1)
    state = task * (POINTS * DIM) + point * DIM
    tile = tape + task * (5 * PART) + point[:, None] * WIDTH + unit[None, :]
    r_tile = r_tape + task * (4 * PART) + point[:, None] * WIDTH + unit[None, :]
    mask = there[:, None] & (unit[None, :] < WIDTH)

    r = tl.broadcast_to(_vector(vector + WIDTH * DIM, unit, WIDTH, UNITS)[None, :], (ROWS, UNITS))
    for d in tl.static_range(DIM):
        x_d = tl.load(x + state + d, mask=there, other=0.0)[:, None]
        r += x_d * _of_input(vector, unit, d, DIM, WIDTH, UNITS)
    r_a = (r,)
    for i in tl.static_range(TOP):
        h = tl.load(tile + i * TILE, mask=mask, other=0.0)
        r_h = r_a[i] * (1 - h * h)
        tl.store(r_tile + i * TILE, r_h, mask=mask)
        r = _product(h, _weight_t(v_above + i * LAYER, unit, WIDTH, UNITS))
        r = _product(r_h, _weight_t(above + i * LAYER, unit, WIDTH, UNITS), r)
        r_a = r_a + (r + _vector(v_above + i * LAYER + WIDTH * WIDTH, unit, WIDTH, UNITS)[None, :],)

    r_u = (tl.broadcast_to(_vector(v_above + TOP * LAYER, unit, WIDTH, UNITS)[None, :], (ROWS, UNITS)),)
    for i in tl.static_range(TOP, 0, -1):
        h = tl.load(tile + i * TILE, mask=mask, other=0.0)
        g = tl.load(tile + 2 * PART + i * TILE, mask=mask, other=0.0)
        r_g = r_u[0] * (1 - h * h) - 2 * h * g * r_a[i]
        tl.store(r_tile + 2 * PART + i * TILE, r_g, mask=mask)
        r = _product(g, _weight(v_above + (i - 1) * LAYER, unit, WIDTH, UNITS))
        r_u = (_product(r_g, _weight(above + (i - 1) * LAYER, unit, WIDTH, UNITS), r),) + r_u
    h = tl.load(tile, mask=mask, other=0.0)
    g = tl.load(tile + 2 * PART, mask=mask, other=0.0)
    r_g = r_u[0] * (1 - h * h) - 2 * h * g * r_a[0]
    tl.store(r_tile + 2 * PART, r_g, mask=mask)

    factor_of = tl.load(factor + task * POINTS + point, mask=there, other=0.0)
    r = tl.zeros([ROWS, UNITS], tl.float32)
    for d in tl.static_range(DIM):
        w_d = _of_input(theta, unit, d, DIM, WIDTH, UNITS)
        v_d = _of_input(vector, unit, d, DIM, WIDTH, UNITS)
        scale_d = tl.load(scale + d)
        r_rho_d = tl.sum(g * v_d + r_g * w_d, 1) * factor_of * scale_d * scale_d
        tl.store(r_rho + state + d, r_rho_d, mask=there)
        r += tl.load(rho + state + d, mask=there, other=0.0)[:, None] * v_d + r_rho_d[:, None] * w_d

    r_c = (r,)
    for i in tl.static_range(DEPTH):
        h = tl.load(tile + i * TILE, mask=mask, other=0.0)
        t = tl.load(tile + PART + i * TILE, mask=mask, other=0.0)
        r_t = -2 * h * t * r_a[i] + (1 - h * h) * r_c[i]
        tl.store(r_tile + PART + i * TILE, r_t, mask=mask)
        if i < TOP:
            r = _product(t, _weight_t(v_above + i * LAYER, unit, WIDTH, UNITS))
            r_c = r_c + (_product(r_t, _weight_t(above + i * LAYER, unit, WIDTH, UNITS), r),)

    r_back = tl.zeros([ROWS, UNITS], tl.float32)
    for i in tl.static_range(TOP, -1, -1):
        h = tl.load(tile + i * TILE, mask=mask, other=0.0)
        t = tl.load(tile + PART + i * TILE, mask=mask, other=0.0)
        g = tl.load(tile + 2 * PART + i * TILE, mask=mask, other=0.0)
        q_of_a = tl.load(tile + 4 * PART + i * TILE, mask=mask, other=0.0)
        r_q = q_of_a * r_a[i] - 2 * h * (g * r_c[i] + t * r_u[i]) + (1 - h * h) * r_back
        tl.store(r_tile + 3 * PART + i * TILE, r_q, mask=mask)
        if i > 0:
            q = tl.load(tile + 3 * PART + i * TILE, mask=mask, other=0.0)
            r_back = _product(q, _weight(v_above + (i - 1) * LAYER, unit, WIDTH, UNITS))
            r_back = _product(r_q, _weight(above + (i - 1) * LAYER, unit, WIDTH, UNITS), r_back)


@triton.jit
def _rows(part, point, there, unit, WIDTH: tl.constexpr):
    """[points, units]"""
    mask = there[:, None] & (unit[None, :] < WIDTH)
    return tl.load(part + point[:, None] * WIDTH + unit[None, :], mask=mask, other=0.0)


@triton.jit
def _columns(part, point, there, unit, WIDTH: tl.constexpr):
    """[units, points]"""
    mask = there[None, :] & (unit[:, None] < WIDTH)
    return tl.load(part + point[None, :] * WIDTH + unit[:, None], mask=mask, other=0.0)


@triton.jit
def sums(
    x,
    tape,
    rho,
    last,  # the tape whose g and q are summed: `tape` for the gradient, that of R{·} for the Hessian
    last_rho,
    out,
    HESSIAN: tl.constexpr,
    PARTS: tl.constexpr,  # of `last`
    POINTS: tl.constexpr,
    DIM: tl.constexpr,
    DEPTH: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
):
    LAYER: tl.constexpr = WIDTH * WIDTH + WIDTH
    SIZE: tl.constexpr = WIDTH * (DIM + 2) + (DEPTH - 1) * LAYER
    TILE: tl.constexpr = POINTS * WIDTH
    PART: tl.constexpr = DEPTH * TILE
    task = (tl.program_id(0) // DEPTH).to(tl.int64)
    layer = tl.program_id(0) % DEPTH
    unit = tl.arange(0, UNITS)
    out += task * SIZE
    tape += task * (5 * PART)
    last += task * (PARTS * PART)
    bias = tl.zeros([UNITS], tl.float32)
    if layer == 0:
        head = tl.zeros([UNITS], tl.float32)
        for start in tl.static_range(0, POINTS, ROWS):
            point = start + tl.arange(0, ROWS)
            there = point < POINTS
            bias += tl.sum(_rows(last + 3 * PART, point, there, unit, WIDTH), 0)
            head += tl.sum(_rows(last + PART + (DEPTH - 1) * TILE, point, there, unit, WIDTH), 0)
        for d in tl.static_range(DIM):
            of_input = tl.zeros([UNITS], tl.float32)
            for start in tl.static_range(0, POINTS, ROWS):
                point = start + tl.arange(0, ROWS)
                there = point < POINTS
                state = task * (POINTS * DIM) + point * DIM + d
                x_d = tl.load(x + state, mask=there, other=0.0)[:, None]
                rho_d = tl.load(rho + state, mask=there, other=0.0)[:, None]
                part = x_d * _rows(last + 3 * PART, point, there, unit, WIDTH)
                part += rho_d * _rows(last + 2 * PART, point, there, unit, WIDTH)
                if HESSIAN:
                    r_rho_d = tl.load(last_rho + state, mask=there, other=0.0)[:, None]
                    part += r_rho_d * _rows(tape + 2 * PART, point, there, unit, WIDTH)
                of_input += tl.sum(part, 0)
            tl.store(out + unit * DIM + d, of_input, mask=unit < WIDTH)
        tl.store(out + WIDTH * DIM + unit, bias, mask=unit < WIDTH)
        tl.store(out + SIZE - WIDTH + unit, head, mask=unit < WIDTH)
    else:
        matrix = tl.zeros([UNITS, UNITS], tl.float32)
        tape += layer * TILE
        last += layer * TILE
        for start in tl.static_range(0, POINTS, ROWS):
            point = start + tl.arange(0, ROWS)
            there = point < POINTS
            q = _columns(last + 3 * PART, point, there, unit, WIDTH)
            bias += tl.sum(q, 1)
            matrix = _product(q, _rows(tape - TILE, point, there, unit, WIDTH), matrix)
            g = _columns(last + 2 * PART, point, there, unit, WIDTH)
            matrix = _product(g, _rows(tape + PART - TILE, point, there, unit, WIDTH), matrix)
            if HESSIAN:
                g = _columns(tape + 2 * PART, point, there, unit, WIDTH)
                matrix = _product(g, _rows(last + PART - TILE, point, there, unit, WIDTH), matrix)
                q = _columns(tape + 3 * PART, point, there, unit, WIDTH)
                matrix = _product(q, _rows(last - TILE, point, there, unit, WIDTH), matrix)
        out += WIDTH * (DIM + 1) + (layer - 1) * LAYER
        inside = (unit[:, None] < WIDTH) & (unit[None, :] < WIDTH)
        tl.store(out + unit[:, None] * WIDTH + unit[None, :], matrix, mask=inside)
        tl.store(out + WIDTH * WIDTH + unit, bias, mask=unit < WIDTH)


def size_of_rows(units, points):
    """The size of a program of `gradient_rows` and `hessian_rows`."""
    rows = min(max(16, VALUES // units), max(16, triton.next_power_of_2(points)))
    return {"ROWS": rows, "num_warps": WARPS, "num_stages": 1, "maxnreg": REGISTERS}


def size_of_sums(units, points):
    """The size of a program of `sums`."""
    rows = min(64 if units <= 64 else 32, max(16, triton.next_power_of_2(points)))
    return {"ROWS": rows, "num_warps": 4 if units <= 64 else 8, "num_stages": 1}


class Kernels:
    """The gradient and the Hessian's product of one network's shape, for tasks with as many points each."""

    def __init__(self, net, points):
        dim, width, depth, count = net.state_dim, net.head.in_features, len(net.hidden_layers), points.x.shape[1]
        units = max(16, triton.next_power_of_2(width))
        self.shape = {"POINTS": count, "DIM": dim, "DEPTH": depth, "WIDTH": width, "UNITS": units}
        self.size = width * (dim + 2) + (depth - 1) * (width * width + width)
        self.tasks, self.points = len(points.x), count
        self.x = net.normalized(points.x).contiguous()
        self.target = points.rows(hamiltonian_field(points.dxdt)).contiguous()
        self.factor = points.rows((2 / points.counts[:, None, None]).expand(-1, count, 1)).squeeze(-1).contiguous()
        self.scale = 1 / net.state_box

        self.for_rows = self.shape | size_of_rows(units, count)
        self.for_sums = self.shape | size_of_sums(units, count)
        self.blocks = (self.tasks * math.ceil(count / self.for_rows["ROWS"]),)
        self.layers = (self.tasks * depth,)

    def new(self, *shape):
        return self.x.new_empty(self.tasks, *shape)

    def gradient(self, theta):
        """Each task's loss, its gradient, and what `hessian` needs. `theta`: [tasks or 1, size]."""
        of_task = 0 if len(theta) == 1 else self.size
        layers = self.shape["DEPTH"], self.points, self.shape["WIDTH"]
        tape, rho, losses, gradient = (
            self.new(ON_TAPE, *layers),
            torch.empty_like(self.x),
            self.new(self.points),
            self.new(self.size),
        )
        given = (theta, of_task, self.x, self.target, self.factor, self.scale, tape, rho, losses)
        gradient_rows[self.blocks](*given, **self.for_rows)
        sums[self.layers](self.x, tape, rho, tape, rho, gradient, HESSIAN=False, PARTS=ON_TAPE, **self.for_sums)
        return losses.sum(1), gradient, (theta, tape, rho)

    def hessian(self, kept, vector):
        """Each task's Hessian times a vector, both [tasks, size]."""
        theta, tape, rho = kept
        of_task = 0 if len(theta) == 1 else self.size
        r_tape, r_rho, product = (
            self.new(ON_R_TAPE, *tape.shape[2:]),
            torch.empty_like(rho),
            torch.empty_like(vector),
        )
        given = (theta, of_task, vector, self.x, self.factor, self.scale, tape, rho, r_tape, r_rho)
        hessian_rows[self.blocks](*given, **self.for_rows)
        sums[self.layers](self.x, tape, rho, r_tape, r_rho, product, HESSIAN=True, PARTS=ON_R_TAPE, **self.for_sums)
        return product


class FusedMAML(MAML):
    """MAML whose step is that of the kernels, where they can take it: for layers of tanh in float32 on a GPU."""

    def losses_and_gradients(self, episodes):
        """As in `MAML`, with all weights of a task in one row."""
        net, x = self.net, episodes.query.x
        known = net.has_layers and net.activation == ACTIVATIONS["tanh"] and self.backend == "vectorized"
        if not (known and x.dtype == torch.float32 and (x.is_cuda or INTERPRETED.value)):
            return super().losses_and_gradients(episodes)
        named = dict(net.named_parameters())
        with torch.no_grad():
            support, query = Kernels(net, episodes.support), Kernels(net, episodes.query)
            theta = torch.cat([value.flatten() for value in named.values()])[None]
            sizes = [value.numel() for value in named.values()]
            steps = []
            for step in range(self.inner_steps):
                _, gradient, kept = support.gradient(theta)
                rates = torch.cat([self.one_each(self.rate(step, i), size) for i, size in enumerate(sizes)])
                theta = theta - rates * gradient
                steps.append((rates, gradient, kept))
            losses, v, _ = query.gradient(theta)
            of_rates = []
            for rates, gradient, kept in reversed(steps):
                if self.learn_lr:
                    of_rates.append((-v * gradient).sum(0).split(sizes))
                if not self.first_order:
                    v = v + support.hessian(kept, -rates * v)
            parts = v.sum(0).split(sizes)
            gradients = {f"net.{name}": part.view_as(named[name]) for name, part in zip(named, parts, strict=True)}
            return losses, gradients | (self.rate_gradients(of_rates[::-1]) if self.learn_lr else {})

    def one_each(self, rate, size):
        """A rate for each of so many weights."""
        if isinstance(rate, float):
            return self.net.head.weight.new_full((size,), rate)
        return rate.detach().flatten().expand(size)


def resources(kernel, num_warps, num_stages, maxnreg=None, capability=90, **constants):
    """What a kernel compiled for a GPU needs, in words: registers, and instructions of each kind."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.arg_names
    signature = {name: "i32" if name == "of_task" else "constexpr" if name in constants else "*fp32" for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name not in constants}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    options = {"num_warps": num_warps, "num_stages": num_stages, "maxnreg": maxnreg}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "kernel.cubin"
        binary.write_bytes(compiled.asm["cubin"])
        usage = subprocess.run([tools / "cuobjdump", "-res-usage", binary], capture_output=True, text=True, check=True)
        code = subprocess.run([tools / "nvdisasm", "-c", binary], capture_output=True, text=True, check=True)
    registers = re.search(r"REG:(\d+)", usage.stdout)[1]
    kinds = Counter(re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_]+)", code.stdout))
    products = kinds["HMMA"] + kinds["HGMMA"]
    return (
        f"{registers} registers, {kinds['LDL'] + kinds['STL']} spills, {compiled.metadata.shared // 1024} KiB shared, "
        f"{sum(kinds.values())} instructions, {products} of them products"
    )


if __name__ == "__main__":
    for shape in ((64, 3, 50, 2), (48, 3, 50, 2), (128, 3, 50, 2), (64, 1, 7, 2), (64, 4, 100, 4)):
        width, depth, count, dim = shape
        print("width {}, depth {}, {} points, {} coordinates".format(*shape))
        units = max(16, triton.next_power_of_2(width))
        constants = {"POINTS": count, "DIM": dim, "DEPTH": depth, "WIDTH": width, "UNITS": units}
        rows, of_points = size_of_rows(units, count), size_of_sums(units, count)
        for what, kernel, size in (
            ("gradient_rows", gradient_rows, rows),
            ("sums of the gradient", sums, of_points | {"HESSIAN": False, "PARTS": ON_TAPE}),
            ("hessian_rows", hessian_rows, rows),
            ("sums of the Hessian", sums, of_points | {"HESSIAN": True, "PARTS": ON_R_TAPE}),
        ):
            print(f"  {what}, {size['ROWS']} points, {size['num_warps']} warps: ", end="")
            print(resources(kernel, **constants, **size), flush=True)
