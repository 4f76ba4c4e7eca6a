"""`python -m meta_hamiltonian`: what is done with a trained learner."""

import contextlib
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False
)


@app.callback()
def main() -> None:
    """Use a meta-trained learner on systems of your own."""


@app.command()
def adapt(
    run: Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint file.")],
    observations: Annotated[Path, typer.Argument(help="A .csv file with a header, or .npz; see the columns above.")],
    horizon: Annotated[float, typer.Option(help="How long to predict, in the time units of the observations.")] = 20.0,
    start: Annotated[
        str | None, typer.Option("--from", help="Predict from this state, as q,p; else from the last observed one.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The new folder; else OBSERVATIONS-adapted beside you.")] = None,
    fit: Annotated[
        str, typer.Option(help="For trajectories: derivatives, orbit, or auto, the better one at their ends.")
    ] = "auto",
    inertia: Annotated[float, typer.Option(help="Where p was not observed, p = inertia · dq/dt.")] = 1.0,
    steps: Annotated[int | None, typer.Option(help="Gradient steps; else as many as in training.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the folder if it exists.")] = False,
) -> None:
    """Find the dynamics of a new system from a file of observations.

    Columns: `q,p,dq,dp` (states and derivatives), `t,q,p` or `t,q,v` (trajectories, several with a column
    `trajectory`), or `t,q`; for n degrees of freedom `q1..qn` and so on.

    Examples:

    `python -m meta_hamiltonian adapt outputs/ridge observations.csv`

    `python -m meta_hamiltonian adapt outputs/ridge swing.csv --from 1.2,0 --horizon 40 --out swing`
    """
    with _one_line_errors():
        _adapt(run, observations, horizon, start, out, fit, inertia, steps, force)


@app.command()
def bands(
    run: Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint file, of algo=ridge.")],
    out: Annotated[Path, typer.Option(help="The new folder.")] = Path("bands"),
    n_systems: Annotated[int, typer.Option(min=1, help="New systems; a tenth is followed along orbits.")] = 1000,
    shots: Annotated[str, typer.Option(help="Numbers of observed points.")] = "5,25",
    noise: Annotated[str, typer.Option(help="Relative noise of the observations.")] = "0,0.05",
    seed: Annotated[int, typer.Option(min=0, help="Of the systems.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace the folder if it exists.")] = False,
) -> None:
    """Check the credible bands on new systems: how often the truth lies inside them.

    Example: `python -m meta_hamiltonian bands outputs/ridge`
    """
    with _one_line_errors():
        _check_folder(out, force)
        ks, noises = [int(k) for k in _list("--shots", shots, 1.0)], _list("--noise", noise, 0.0)

        from meta_hamiltonian import load
        from meta_hamiltonian.checkpoint import load_system
        from meta_hamiltonian.evaluation.coverage import coverage
        from meta_hamiltonian.figures import save
        from meta_hamiltonian.figures.learned import reliability
        from meta_hamiltonian.learners import Ridge
        from meta_hamiltonian.results import write_rows

        learner = load(run)
        if not isinstance(learner, Ridge):
            raise ValueError(f"{run} holds a {type(learner).__name__}, which has no bands; train one with algo=ridge")
        orbits = max(1, n_systems // 10)
        found = list(coverage(learner, load_system(run), ks, noises, n_systems, orbits, seed))
        with _new_folder(out) as folder:
            rows = [dataclasses.asdict(row) for row in found]
            write_rows(folder / "coverage.csv", list(rows[0]), rows)
            save(reliability(found), folder / "reliability")
        for row in found:
            print(f"K={row.shots:<4d} noise={row.noise:<5g} {row.quantity:7s} {row.level:4.0%}: {row.observed:6.1%}")
        print(f"Everything lies in {out}: coverage.csv, reliability.png.")


@app.command()
def identify(
    run: Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint file.")],
    out: Annotated[Path, typer.Option(help="The new folder.")] = Path("identified"),
    n_systems: Annotated[int, typer.Option(min=4, help="New systems that it is adapted to.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of the systems.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace the folder if it exists.")] = False,
) -> None:
    """Say what was learned: how many independent terms the family has, and whether the head knows its parameters.

    Example: `python -m meta_hamiltonian identify outputs/ridge`
    """
    with _one_line_errors():
        _check_folder(out, force)

        from meta_hamiltonian import load
        from meta_hamiltonian.checkpoint import load_system
        from meta_hamiltonian.figures import save
        from meta_hamiltonian.figures.learned import terms
        from meta_hamiltonian.identify import identify
        from meta_hamiltonian.results import write_rows

        found = identify(load(run), load_system(run), n_systems, seed)
        rows = [{"what": "error of the fields", "value": found.error}, {"what": "terms", "value": found.terms}]
        rows += [{"what": f"singular value {i}", "value": v} for i, v in enumerate(found.singular_values.tolist(), 1)]
        rows += [{"what": f"R² of {name}", "value": value} for name, value in found.r2.items()]
        with _new_folder(out) as folder:
            write_rows(folder / "identified.csv", ["what", "value"], rows)
            save(terms(found), folder / "terms")
        print(f"Independent terms of the family: {found.terms} (contributions above an error of {found.error:.2g})")
        print(
            "Contributions: " + ", ".join(f"{value:.2g}" for value in found.singular_values[: found.terms + 3].tolist())
        )
        for name, value in found.r2.items():
            print(f"{name} is linear in the head: R² = {value:.6f}")
        print(f"Everything lies in {out}: identified.csv, terms.png.")


@app.command()
def export(
    adapted: Annotated[Path, typer.Argument(help="The adapted.pt that `adapt` left.")],
    file: Annotated[Path, typer.Argument(help="The new file: .pt2 (torch.export) or .onnx.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write H and dx/dt of an adapted system for other programs, checked against it to 1e-6.

    Example: `python -m meta_hamiltonian export observations-adapted/adapted.pt pendulum.pt2`
    """
    with _one_line_errors():
        _check_folder(file, force)

        from meta_hamiltonian import load_adapted
        from meta_hamiltonian.export import export

        export(load_adapted(adapted), file)
        print(f"{file}: states x [batch, 2n] in float64 -> H [batch], dx/dt [batch, 2n].")


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """What a user's file, folder or number can be wrong in: one line, exit code 2."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        if isinstance(error, (TypeError, RuntimeError)) and not type(error).__module__.startswith("meta_hamiltonian"):
            raise
        sys.stderr.write(f"Error: {' '.join(str(error).split())}\n")
        raise typer.Exit(2) from error


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder that is there only when it is complete; it replaces the one that exists."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as unfinished:
        inside = Path(unfinished) / "new"
        inside.mkdir()
        yield inside
        if folder.exists():
            os.replace(folder, Path(unfinished) / "old")
        os.replace(inside, folder)


def _check_folder(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists already; choose another name, or replace it with --force")


def _list(option: str, text: str, least: float) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(least <= value < float("inf") for value in values):
        raise ValueError(f"{option} must be numbers of at least {least:g}, separated by commas, got {text!r}")
    return values


def _adapt(
    run: Path,
    source: Path,
    horizon: float,
    start: str | None,
    out: Path | None,
    how: str,
    inertia: float,
    steps: int | None,
    force: bool,
) -> None:
    out = Path(f"{source.stem}-adapted") if out is None else out
    _check_folder(out, force)
    if not 0 < horizon < float("inf"):
        raise ValueError(f"--horizon must be a finite number above 0, got {horizon}")

    import torch  # here: `--help` and a refusal need not wait for it

    from meta_hamiltonian import adapt, load
    from meta_hamiltonian.fitting import fit
    from meta_hamiltonian.observations import read_observations

    state_dim = load(run).net.state_dim
    observed = read_observations(source, state_dim)
    first = None if start is None else torch.tensor(_numbers(start, state_dim), dtype=torch.float64)
    began = time.perf_counter()
    found = fit(run, observed, how, inertia, steps)
    seconds = time.perf_counter() - began
    if first is not None:
        found = found.starting_from(first)
    with _new_folder(out) as folder:
        table = adapt.write(found, horizon, run, source, folder)

    for name, value in (table | {"time": f"{seconds:.2g} s"}).items():
        print(f"{name + ':':42s} {value}")
    for note in found.notes:
        print(f"Note: {note}")
    for warning in found.warnings:
        print(f"Warning: {warning}")
    print(f"Everything lies in {out}: report.html, prediction.csv, figures, adapted.pt.")


def _numbers(text: str, count: int) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count or not all(abs(value) < float("inf") for value in values):
        raise ValueError(f"--from must be {count} finite numbers separated by commas, got {text!r}")
    return values


if __name__ == "__main__":
    app()
