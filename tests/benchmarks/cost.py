"""What an outer step costs: `uv run python tests/benchmarks/cost.py FIGURE` draws it and prints the memory.

Time against each size alone, the others as in the benchmarks with a meta-batch of 100, without compilation.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from meta_hamiltonian.episodes import Episodes, Points
from meta_hamiltonian.figures.style import MARKERS, SERIES, new_figure, save
from meta_hamiltonian.learners import ANIL, MAML
from meta_hamiltonian.models import HamiltonianNetwork

LEARNERS = {"MAML": MAML, "ANIL": ANIL}
SIZES = {"tasks": 100, "points": 50, "inner_steps": 5, "width": 64, "state_dim": 2}
AXES = {
    "tasks": ("tasks in the meta-batch", [1, 3, 10, 30, 100, 300, 1000]),
    "points": ("K = query points", [1, 3, 10, 30, 100, 300]),
    "inner_steps": ("inner steps", [1, 2, 5, 10, 20]),
    "width": ("width", [8, 16, 32, 64, 128, 256]),
    "state_dim": ("state dimension 2n", [2, 4, 8, 16, 32]),
}


def step(algorithm, compile=False, **sizes):
    sizes = SIZES | sizes
    torch.manual_seed(0)
    net = HamiltonianNetwork(sizes["state_dim"], sizes["width"])
    learner = LEARNERS[algorithm](net, inner_steps=sizes["inner_steps"], compile=compile)
    optimizer = torch.optim.Adam(learner.parameters())
    support, query = (
        Points(*torch.randn(2, sizes["tasks"], sizes["points"], sizes["state_dim"]).unbind()) for _ in range(2)
    )
    episodes = Episodes(support, query, torch.zeros(sizes["tasks"], 1))

    def run():
        optimizer.zero_grad()
        learner.meta_loss(episodes).backward()
        optimizer.step()

    return run


def seconds(run):
    run()
    times = []
    while len(times) < 3 or sum(times) < 0.5:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def draw(path):
    figure = new_figure(14, 2.8)
    panels = figure.subplots(1, len(AXES), sharey=True)
    for panel, (name, (label, values)) in zip(panels, AXES.items(), strict=True):
        for algorithm, colour, marker in zip(LEARNERS, SERIES, MARKERS, strict=False):
            times = [seconds(step(algorithm, **{name: value})) for value in values]
            print(algorithm, name, dict(zip(values, [round(1e3 * t, 2) for t in times], strict=True)), "ms")
            panel.loglog(values, times, color=colour, marker=marker, label=algorithm)
        panel.axvline(SIZES[name], color="0.8", zorder=0)
        panel.set_xlabel(label)
        panel.set_xticks(values, [str(value) for value in values])
        panel.minorticks_off()
    panels[0].set_ylabel("seconds an outer step")
    panels[0].legend()
    save(figure, path)


def print_memory():
    """Each in a process of its own: the peak before its first step and after its steps."""
    for algorithm in LEARNERS:
        for compile in ("", "compile"):
            for tasks in (10, 100, 1000):
                command = [sys.executable, __file__, "--memory", algorithm, compile, str(tasks)]
                print(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


def memory(algorithm, compile, tasks):
    def peak():
        (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024

    run, before = step(algorithm, compile, tasks=tasks), peak()
    took = seconds(run)
    print(f"{algorithm} {'compiled' if compile else 'eager'}, {tasks} tasks: {took:.3f} s a step,", end=" ")
    print(f"peak memory {before:.0f} MiB before, {peak():.0f} MiB after")


if __name__ == "__main__":
    if sys.argv[1] == "--memory":
        memory(sys.argv[2], bool(sys.argv[3]), int(sys.argv[4]))
    else:
        draw(Path(sys.argv[1]))
        print_memory()
