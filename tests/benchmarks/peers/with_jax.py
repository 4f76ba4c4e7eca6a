"""JAX: one task as a pure function, vmap over the tasks, jit of the whole step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from work import INNER_LR, INNER_STEPS, OUTER_LR, Program, episodes, layers

from meta_hamiltonian.systems import Pendulum

BOX = jnp.asarray(Pendulum().state_box, jnp.float32)


def energy(body, head, x):
    hidden = x / BOX
    for weight, bias in body:
        hidden = jnp.tanh(weight @ hidden + bias)
    return (head @ hidden)[0]


def field(body, head, x):
    """As users write it: the gradient of the energy of one point, for all points by vmap."""
    gradient = jax.vmap(jax.grad(energy, argnums=2), in_axes=(None, None, 0))(body, head, x)
    return jnp.stack([gradient[:, 1], -gradient[:, 0]], axis=-1)


def explicit_field(body, head, x):
    """The same as matrix products, forward and transposed."""
    hidden, slopes = x / BOX, []
    for weight, bias in body:
        hidden = jnp.tanh(hidden @ weight.T + bias)
        slopes.append(1 - hidden**2)
    gradient = head * slopes[-1]
    for (weight, _), slope in zip(body[:0:-1], slopes[-2::-1], strict=True):
        gradient = (gradient @ weight) * slope
    gradient = gradient @ body[0][0] / BOX
    return jnp.stack([gradient[:, 1], -gradient[:, 0]], axis=-1)


def program(algorithm: str, tasks: int, field=field) -> Program:
    body, head = layers()
    parameters = [(w.numpy(), b.numpy()) for w, b in body], head.numpy()
    parameters = jax.tree.map(jnp.asarray, parameters)
    observed = episodes(tasks)
    data = [jnp.asarray(v.numpy()) for p in (observed.support, observed.query) for v in (p.x, p.dxdt)]

    def loss(parameters, x, dxdt):
        return jnp.square(field(*parameters, x) - dxdt).sum(-1).mean()

    def task_loss(parameters, x, dxdt, query_x, query_dxdt):
        if algorithm == "maml":
            own = parameters
            for _ in range(INNER_STEPS):
                gradient = jax.grad(loss)(own, x, dxdt)
                own = jax.tree.map(lambda value, change: value - INNER_LR * change, own, gradient)
            return loss(own, query_x, query_dxdt)
        body, head = parameters
        for _ in range(INNER_STEPS):
            head = head - INNER_LR * jax.grad(lambda head: loss((body, head), x, dxdt))(head)
        return loss((body, head), query_x, query_dxdt)

    def meta_loss(parameters, data):
        return jax.vmap(task_loss, in_axes=(None, 0, 0, 0, 0))(parameters, *data).mean()

    optimizer = optax.adam(OUTER_LR)

    @jax.jit
    def update(parameters, state, data):
        change, state = optimizer.update(jax.grad(meta_loss)(parameters, data), state)
        return optax.apply_updates(parameters, change), state

    state = [parameters, optimizer.init(parameters)]

    def step():
        state[:] = jax.block_until_ready(update(*state, data))

    def gradient():
        leaves = jax.tree.leaves(jax.jit(jax.grad(meta_loss))(parameters, data))
        return torch.from_numpy(np.concatenate([np.asarray(leaf).ravel() for leaf in leaves]))

    return Program(step, gradient)
