# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # A pendulum from 25 points
#
# A learner that was trained on other pendulums adapts to a new one. In a clone, train it once:
# `python train.py algo=ridge hydra.run.dir=outputs/ridge` (about a minute).

# %%
import matplotlib.pyplot as plt
import torch

from meta_hamiltonian import load
from meta_hamiltonian.episodes import sample_episodes
from meta_hamiltonian.systems import Pendulum

learner = load("outputs/ridge")
system = Pendulum()
episodes = sample_episodes(system, tasks=1, support=25, query=1, seed=7, split="example", dtype=torch.float64)
observed, parameters = episodes.support[0], episodes.parameters
m, l, q0 = parameters[0].tolist()
print(f"hidden: m = {m:.3f}, l = {l:.3f}, q0 = {q0:.3f}")

# %% [markdown]
# ## Adapt
#
# 25 states (q, p) and their derivatives are all that the learner sees. Its field on a grid of the state box, against
# the true one:

# %%
adapted = learner.adapt(observed.x, observed.dxdt)
grid = system.domain.grid(50)
true = system.field(grid, parameters)
error = (adapted.field(grid) - true).norm(dim=-1)
print(f"largest error of the field: {error.max():.1e}, where the field is up to {true.norm(dim=-1).max():.0f}")

# %% [markdown]
# ## Look
#
# Lines of equal energy, and what was observed.

# %%
energy = adapted.energy(grid).reshape(50, 50)
q, p = grid[:, 0].reshape(50, 50), grid[:, 1].reshape(50, 50)
figure, axes = plt.subplots(figsize=(6, 4))
axes.contour(q, p, energy, levels=20, linewidths=0.8)
axes.quiver(*observed.x.T, *observed.dxdt.T, color="#D55E00", width=0.004)
axes.set(xlabel="q (rad)", ylabel="p")
plt.show()

# %% [markdown]
# ## How sure
#
# With noise of 5 % the head is not known exactly. Systems drawn from its posterior say how well: here the spread of
# dx/dt at one state.

# %%
noisy = sample_episodes(system, tasks=1, support=25, query=1, seed=7, split="example", dtype=torch.float64, noise=0.05)
samples = learner.sample(noisy.support.x[0], noisy.support.dxdt[0], count=100)
state = torch.tensor([[0.5, 1.0]], dtype=torch.float64)
fields = samples.field(state.expand(100, 1, 2))
print("dx/dt =", fields.mean(0)[0].tolist(), "±", fields.std(0)[0].tolist())
print("true  =", system.field(state, parameters)[0].tolist())
