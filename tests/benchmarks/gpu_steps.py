"""What a GPU gives: `python tests/benchmarks/gpu_steps.py [PART ...] [--seconds 450] [--out FOLDER] [--small]`.

Run it from the top of a clone, on a machine with a CUDA device; it needs no network. Parts, in the order in which they
are taken, all of them by default; one that would not end within `--seconds` is left out:

- `equal`: Levenberg-Marquardt steps on the GPU against those on the CPU: the relative distance of the weights.
- `lm`: tasks per second of whole Levenberg-Marquardt steps, and where their time goes. A profile of kernels: `lm.txt`.
- `graph`: the same computations as CUDA graphs, which shows what launching one kernel at a time costs.
- `best`: `train.py experiment=best trainer=gpu`, its seconds of training and of testing, and its results.
- `evaluation`: the test of 1,000 systems by itself.
- `jax`: outer steps of MAML with 100, 1,000 and 10,000 tasks and of ANIL with 10,000, each beside JAX's, where JAX is
    installed: this, JAX, and the ratio.
- `fused`: the candidate of `fused_maml.py`: its gradients, and its steps with several sizes of a program, beside JAX's.
- `shapes`: gradients in float32 against float64, for other widths, depths, numbers of points and of degrees of freedom.
- `anil`, `maml`: an outer step by itself, and the same step in `train.py`.

`--small` takes few of everything: it shows, on any machine, whether all of it runs.

What is printed last is a table: what was predicted before it was ever measured, and what came out. Times are medians
after a warm-up, with the device waited for. A part that fails prints the end of its error, and the next one goes on.
"""

import argparse
import csv
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch
from gpu_peers import KINDS, SHAPES, as_one_graph, beside_jax, gradient_error, our_step

from meta_hamiltonian.episodes import Episodes, Points, sample_episodes
from meta_hamiltonian.evaluation import evaluate, make_test_set
from meta_hamiltonian.learners import ANIL, MAML, Ridge
from meta_hamiltonian.learners.checkpoint import load_trained
from meta_hamiltonian.learners.loss import rescaled
from meta_hamiltonian.learners.numerics.gram import gram_of
from meta_hamiltonian.models import HamiltonianNetwork, NaturalNetwork
from meta_hamiltonian.systems import HenonHeiles, Pendulum
from meta_hamiltonian.training.levenberg_marquardt import LevenbergMarquardt, VariableProjection, projected_parameters

ROOT = Path(__file__).parents[2]
ROWS: list[tuple[str, str, str]] = []
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # which shows only whether the script runs
TRAINER = "gpu" if DEVICE == "cuda" else "cpu"
RUNS = Path(tempfile.mkdtemp())
FEWER = 1  # with --small, of how many tasks and steps one is taken


def few(count):
    return max(2, count // FEWER)


def row(what, predicted, measured):
    ROWS.append((what, predicted, measured))
    print(f"  {what}: {measured} (predicted: {predicted})", flush=True)


def wait():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(run, least=5, most=1.5):
    """The median time of a call."""
    for _ in range(3):
        run()
    wait()
    times = []
    least, most = (least, most) if FEWER == 1 else (1, 0.0)
    while len(times) < least or sum(times) < most:
        start = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - start)
        if len(times) >= 200:
            break
    return statistics.median(times)


def problem(name, tasks, device):
    """A learner, and tasks for it, the same on every device."""
    torch.manual_seed(0)
    system = HenonHeiles() if name == "henon_heiles" else Pendulum()
    if name == "henon_heiles":
        net = NaturalNetwork(width=48, domain=system.domain)
    else:
        width, depth = {"default": (48, 1), "masks": (48, 1), "deep": (24, 2), "wide": (64, 2)}[name]
        net = HamiltonianNetwork(width=width, depth=depth, activation="sin", domain=system.domain, inputs="raw")
    learner = Ridge(net, rank=6, noise=1e-10, scale="task").double()
    tasks = few(tasks)
    episodes = sample_episodes(system, tasks, 50, 50, 0, dtype=torch.float64)
    if name == "masks":

        def some(points, least):
            counts = least + torch.arange(tasks) % (points.x.shape[1] - least)
            return Points(points.x, points.dxdt, torch.arange(points.x.shape[1]) < counts[:, None])

        episodes = Episodes(some(episodes.support, 20), some(episodes.query, 10))
    return learner.to(device), rescaled(episodes.to(device))


def lm_steps(name, tasks, device):
    """A function that takes one whole step, and the learner."""
    learner, episodes = problem(name, tasks, device)
    optimizer = LevenbergMarquardt(projected_parameters(learner).values())
    return lambda: optimizer.step(lambda: VariableProjection(learner, episodes)), learner


def equal():
    for name, tasks in (("default", 50), ("henon_heiles", 20), ("deep", 10), ("masks", 30)):
        found = []
        for device in ("cpu", DEVICE):
            step, learner = lm_steps(name, tasks, device)
            weights = projected_parameters(learner).values()
            after = []
            for taken in range(1, 4):
                loss = step().item()
                if taken != 2:
                    after.append(torch.cat([value.detach().flatten().cpu() for value in weights]))
            found.append((loss, *after))
        (loss, *one), (other_loss, *other) = found
        distances = [((b - a).norm() / a.norm()).item() for a, b in zip(one, other, strict=True)]
        off = abs(other_loss / loss - 1)
        row(
            f"equal, {name}: weights after 1 and 3 steps, third loss",
            "1e-11, 1e-10, 1e-10",
            ", ".join(f"{value:.1e}" for value in (*distances, off)),
        )


def lm():
    predicted = {("default", 50): "12,000", ("default", 500): "90,000", ("wide", 500): "8,500"}
    for (name, tasks), expected in predicted.items():
        step, _ = lm_steps(name, tasks, DEVICE)
        took = seconds(step)
        speed = few(tasks) / took
        row(f"lm, {name}, {tasks} tasks: tasks/s (ms a step)", expected, f"{speed:,.0f} ({1e3 * took:.2f})")
        breakdown(name, tasks)
        used = torch.cuda.max_memory_allocated() / 2**30 if DEVICE == "cuda" else math.nan
        print(f"    {used:.1f} GiB at most; {count_kernels(step)} kernels a step", flush=True)


@torch.no_grad()
def breakdown(name, tasks):
    of = VariableProjection(*problem(name, tasks, DEVICE))
    _, matrix, descent = of.normal_equations()
    matrix.diagonal().mul_(1.01)
    body = sum(value.numel() for key, value in of.parameters.items() if key.startswith("net.body"))
    flat = torch.randn(100 * few(tasks), body, dtype=torch.float64, device=DEVICE)
    parts = {
        "loss": of.loss,
        "normal equations": of.normal_equations,
        "of these, the product of the body's rows": lambda: gram_of(flat),
        "the same as one product": lambda: flat.mT @ flat,
        "Cholesky": lambda: torch.linalg.cholesky_ex(matrix),
        "solve": lambda: torch.cholesky_solve(descent[:, None], matrix),
    }
    print(f"    P = {len(descent)}, {body} of them of the body")
    for part, run in parts.items():
        print(f"    {part}: {1e3 * seconds(run, most=0.3):.3f} ms", flush=True)


def count_kernels(step):
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        step()
        wait()
    table = profiler.key_averages().table(sort_by="cuda_time_total", row_limit=40, max_name_column_width=90)
    with (OUT / "lm.txt").open("a") as file:
        file.write(table + "\n")
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profiler.events())


def recorded(run):
    """A replay of what a function without arguments does on the device."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), torch.no_grad():
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        outputs = run()
    return graph, outputs


def graph():
    if DEVICE == "cpu":
        return print("    there are no CUDA graphs on a CPU", flush=True)
    for name, tasks, predicted in (("default", 50, "0.3 and 0.5"), ("default", 500, "0.4 and 1.2")):
        of = VariableProjection(*problem(name, tasks, DEVICE))
        with torch.no_grad():
            expected = [of.loss(), *of.normal_equations()[1:]]
        losses, loss = recorded(of.loss)
        equations, (_, matrix, descent) = recorded(of.normal_equations)
        losses.replay()
        equations.replay()
        wait()
        off = max(((a - b).norm() / b.norm()).item() for a, b in zip([loss, matrix, descent], expected, strict=True))
        times = [1e3 * seconds(each.replay, most=0.3) for each in (losses, equations)]
        what = f"graph, {name}, {tasks} tasks: ms of the loss and of the normal equations"
        row(what, predicted, f"{times[0]:.3f} and {times[1]:.3f}; off by {off:.0e}")
        solve = recorded(lambda m=matrix, d=descent: torch.cholesky_solve(d[:, None], torch.linalg.cholesky_ex(m)[0]))
        row(f"graph, {name}, {tasks} tasks: ms of Cholesky", "0.6", f"{1e3 * seconds(solve[0].replay, most=0.3):.3f}")


def train(folder, *arguments, limit):
    """Runs train.py; the folder of its run and the wall time."""
    command = [
        sys.executable,
        "train.py",
        f"trainer={TRAINER}",
        "logger=csv",
        "trainer.enable_progress_bar=false",
        *arguments,
    ]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, f"hydra.run.dir={folder}"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, ("src", os.environ.get("PYTHONPATH"))))},
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"train.py {' '.join(arguments)}: {(done.stdout + done.stderr)[-1500:]}")
    return done.stdout, time.perf_counter() - start


def _fewer(steps, every):
    """The length of a training, where it is to be short."""
    short = (f"trainer.max_steps={few(steps)}", f"trainer.val_check_interval={few(every)}", "test.n_systems=5")
    return () if FEWER == 1 else short


def best():
    folder = RUNS / "best"
    said, wall = train(folder, "experiment=best", *_fewer(5000, 250), limit=170)
    spent = json.loads((folder / ".finished.json").read_text())["seconds"]
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    history = checkpoint["meta_hamiltonian_history"]
    steps, took = history[-1]["step"], history[-1]["seconds"]
    print("\n".join(said.splitlines()[-16:]))
    row("best: seconds of training, ms a step (all included)", "30, 6", f"{took:.1f}, {1e3 * took / steps:.2f}")
    row(
        "best: seconds in all: training, testing, wall",
        "33, 12, 60",
        f"{spent['training']:.1f}, {spent['testing']:.1f}, {wall:.0f}",
    )
    with (folder / "results.csv").open() as file:
        for line in csv.DictReader(file):
            row(f"best: field_rel_median at K={line['shots']}", "1e-13", line["field_rel_median"])


def evaluation():
    run = RUNS / "best"
    if not run.exists():
        train(run := RUNS / "short", "algo=ridge", f"trainer.max_steps={few(300)}", "test.n_systems=5", limit=170)
    trained = load_trained(run)
    learner = trained.learner.to(DEVICE)
    start = time.perf_counter()
    test = make_test_set(trained.simulated, few(1000), 50, 0)
    drawn = time.perf_counter()
    results = list(evaluate(learner, test, [25, 50], [1]))
    wait()
    done = time.perf_counter()
    row(
        "evaluation of 1,000 systems, 2 K: true orbits, all else (s)",
        "1.5, 3",
        f"{drawn - start:.1f}, {done - drawn:.1f}",
    )
    row("evaluation: of these, adapting (s)", "0.5, 0.5", ", ".join(f"{r.adapt_seconds:.2f}" for r in results))


def outer_step(kind, tasks):
    """One outer step of `train.py`'s default network, by itself."""
    torch.manual_seed(0)
    system = Pendulum()
    net = HamiltonianNetwork(width=64, depth=3, domain=system.domain, inputs="raw")
    learner = kind(net, lr=0.02, learn_lr=True, scale="task", compile=FEWER == 1).to(DEVICE)
    optimizer = torch.optim.Adam(learner.parameters(), lr=1e-3, fused=True)
    episodes = sample_episodes(system, few(tasks), 50, 50, 0).to(DEVICE)

    def step():
        optimizer.zero_grad()
        learner.meta_loss(episodes).backward()
        optimizer.step()

    return step


def loop(name, kind, steps, share):
    alone = few(1000) / seconds(outer_step(kind, 1000))
    row(f"{name}: tasks/s of a step of 1,000 tasks", "800,000" if name == "anil" else "120,000", f"{alone:,.0f}")
    folder = RUNS / name
    small = ("test.n_systems=5", "test.steps=[1]", "shots=50", f"trainer.max_steps={steps if FEWER == 1 else 60}")
    train(
        folder, f"algo={name}", f"data.meta_batch={few(1000)}", f"compile={str(FEWER == 1).lower()}", *small, limit=170
    )
    with (folder / "csv" / "metrics.csv").open() as file:
        speeds = [float(line["train/tasks_per_second"] or math.nan) for line in csv.DictReader(file)]
    speeds = [speed for speed in speeds if speed == speed]
    inside = statistics.median(speeds[len(speeds) // 3 :])
    row(f"{name}: tasks/s in train.py, and of the step's", share, f"{inside:,.0f}, {inside / alone:.0%}")


def anil():
    loop("anil", ANIL, 1500, "85 %")


def maml():
    loop("maml", MAML, 500, "97 %")


def jax():
    predicted = {("maml", 100): "45,000, 36,000, 1.28", ("maml", 1000): "115,000, 111,000, 1.03"}
    predicted |= {("maml", 10_000): "144,000, 151,000, 0.95", ("anil", 10_000): "921,000, 308,000, 3.0"}
    for (name, tasks), expected in predicted.items():
        step = our_step(KINDS[name], few(tasks), DEVICE, FEWER == 1)
        what = f"jax, {name}, {tasks} tasks: tasks/s of this, of JAX, ratio"
        row(what, expected, beside_jax(name, step, few(tasks), seconds))


def fused():
    import fused_maml

    for shape in SHAPES:
        what = "fused, width {}, depth {}, K = {}, n = {}: relative error of the gradient".format(*shape)
        row(what, "5e-7", f"{gradient_error(fused_maml.FusedMAML, shape, few(200), DEVICE):.1e}")
    default = fused_maml.VALUES, fused_maml.WARPS, fused_maml.REGISTERS
    for size in (default, *fused_maml.OTHERS):
        for tasks, predicted in ((100, "80,000"), (1000, "230,000"), (10_000, "260,000")):
            if size == default or tasks == 1000:
                fused_maml.VALUES, fused_maml.WARPS, fused_maml.REGISTERS = size
                step = our_step(fused_maml.FusedMAML, few(tasks), DEVICE, compiled=False)
                step = as_one_graph(step) if DEVICE == "cuda" else step
                what = "fused, {} values, {} warps, {} registers".format(*size)
                row(f"{what}, {tasks} tasks: of this, of JAX, ratio", predicted,
                    beside_jax("maml", step, few(tasks), seconds))  # fmt: skip
    fused_maml.VALUES, fused_maml.WARPS, fused_maml.REGISTERS = default


def shapes():
    for shape in SHAPES:
        errors = [gradient_error(kind, shape, few(200), DEVICE) for kind in (MAML, ANIL)]
        what = "shapes: width {}, depth {}, K = {}, n = {}: relative error of MAML's and ANIL's gradient".format(*shape)
        row(what, "1e-6, 1e-6", ", ".join(f"{error:.1e}" for error in errors))


# With about how many seconds each takes.
PARTS = {equal: 12, lm: 25, graph: 6, jax: 110, fused: 60, shapes: 15, best: 75, evaluation: 10, anil: 60, maml: 80}


def main():
    names = {part.__name__: part for part in PARTS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *names], metavar="PART")
    parser.add_argument("--seconds", type=float, default=450)
    parser.add_argument("--out", type=Path, default=os.environ.get("OUT"))
    parser.add_argument("--small", action="store_true", help="few of everything, to see whether it runs")
    chosen = parser.parse_args()
    global OUT, FEWER
    FEWER = 100 if chosen.small else 1
    OUT = Path(chosen.out or tempfile.mkdtemp())
    OUT.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    print(f"{torch.cuda.get_device_name() if DEVICE == 'cuda' else 'CPU'}, torch {torch.__version__}", flush=True)
    failed = []
    for name in chosen.parts or names:
        at = time.perf_counter() - began
        if at + PARTS[names[name]] > chosen.seconds and at > 0.1 * chosen.seconds:
            print(f"{name}: left out, {at:.0f} s have passed", flush=True)
            continue
        print(f"{name}, after {at:.0f} s", flush=True)
        try:
            names[name]()
        except Exception:
            failed.append(name)
            print("\n".join(traceback.format_exc().splitlines()[-12:]), flush=True)
    width = max((len(what) for what, *_ in ROWS), default=0)
    print(f"\n{'':{width}}  {'predicted':22s} measured, {time.perf_counter() - began:.0f} s in all")
    for what, predicted, measured in ROWS:
        print(f"{what:{width}}  {predicted:22s} {measured}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
