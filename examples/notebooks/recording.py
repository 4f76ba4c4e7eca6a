# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # A recording with friction, and its forecast
#
# An angle against time, 5 times a second, with noise: nothing else is known. The learner is the one of the other
# notebook, which was trained without friction: `python train.py algo=ridge hydra.run.dir=outputs/ridge`.

# %%
import matplotlib.pyplot as plt
import numpy as np

from meta_hamiltonian import load
from meta_hamiltonian.inference import fit
from meta_hamiltonian.observations import Trajectory
from meta_hamiltonian.reports.prediction import predict

rng, step = np.random.default_rng(0), 0.001
q, v, swing = 1.0, 0.0, []
for _ in range(30000):  # q″ = −sin q − 0.03 q′
    swing.append(q)
    v -= step * (np.sin(q) + 0.03 * v)
    q += step * v
t, angle = step * np.arange(30000)[::200], np.array(swing)[::200]
angle = angle + 0.01 * rng.standard_normal(len(t))
seen = t <= 10

# %% [markdown]
# ## Fit
#
# Momenta were not observed: p is dq/dt, so that energies are in units of that inertia.

# %%
learner = load("outputs/ridge")
found = fit(
    learner, [Trajectory(t[seen], angle[seen, None], p=None, v=None, name="")], how="derivatives", friction="viscous"
)
((damping, error),) = found.friction.values()
print(f"friction: {damping:.3f} ± {error:.3f}; it was 0.03")

# %% [markdown]
# ## Forecast
#
# The bands hold what a further measurement would show.

# %%
ahead = predict(found, 20.0)
low, high = ahead.bands["x"]
figure, axes = plt.subplots(figsize=(9, 3))
axes.fill_between(ahead.t, low[:, 0], high[:, 0], alpha=0.25)
axes.plot(ahead.t, ahead.x[:, 0], label="forecast")
axes.plot(t[seen], angle[seen], ".", label="observed")
axes.plot(t[~seen], angle[~seen], "k.", markersize=3, label="what came later")
axes.set(xlabel="t", ylabel="q (rad)")
axes.legend(ncols=3)
plt.show()

# %%
later = np.interp(t[~seen], ahead.t, ahead.x[:, 0])
print(f"RMS error of the forecast: {np.sqrt(np.mean((later - angle[~seen]) ** 2)):.4f} rad")
