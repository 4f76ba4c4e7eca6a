"""`meta-hamiltonian`, or `python -m meta_hamiltonian`: trains a learner, and uses it on systems of your own."""

import contextlib
import dataclasses
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meta_hamiltonian.jobs.threads import wait_passively

if TYPE_CHECKING:
    from meta_hamiltonian.inference import Fit
    from meta_hamiltonian.learners.checkpoint import Trained

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False
)

Run = Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint file.")]
Imports = Annotated[
    list[str] | None,
    typer.Option("--import", help="A module of yours to import first, in which the family is registered."),
]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, or auto, a GPU where there is one.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what exists.")]


@app.callback()
def main() -> None:
    """Meta-learn the Hamiltonian of a family of systems, and find the dynamics of a new one."""
    wait_passively()


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
    no_args_is_help=False,
)
def train(context: typer.Context) -> None:
    """Meta-train, test and report: the same as `python train.py`. `meta-hamiltonian train --help` explains every key.

    Example: `meta-hamiltonian train algo=maml`
    """
    from meta_hamiltonian.jobs.command import main  # here: the other commands need no Hydra

    sys.argv = ["meta-hamiltonian train", *context.args]
    main()


@app.command()
def simulate(
    family: Annotated[
        list[str], typer.Argument(help="The family, such as system=pendulum, and more keys as those of train.")
    ],
    out: Annotated[Path, typer.Option(help="The new folder.")] = Path("recordings"),
    members: Annotated[int, typer.Option(min=1, help="How many members.")] = 50,
    duration: Annotated[float | None, typer.Option(help="Of each recording; else half the family's horizon.")] = None,
    rate: Annotated[float | None, typer.Option(help="Instants per unit of time; else 300 in all.")] = None,
    noise: Annotated[float, typer.Option(help="Errors, relative to the standard deviation of each column.")] = 0.01,
    missing: Annotated[float, typer.Option(help="Part of the cells that are empty.")] = 0.0,
    jitter: Annotated[float, typer.Option(help="Irregularity of the intervals, relative to their mean.")] = 0.0,
    observed: Annotated[str, typer.Option(help="The columns beside t: q,p or q,v or q.")] = "q,p",
    seed: Annotated[int, typer.Option(min=0, help="Of the members and of the noise.")] = 0,
    force: Force = False,
) -> None:
    """Write a folder of recordings of a simulated family: one file a member, and members.csv with their parameters.

    Examples:

    `python -m meta_hamiltonian simulate system=pendulum --members 50 --out pendulums`

    `python -m meta_hamiltonian simulate system=duffing +friction=viscous friction.high=0.1 --noise 0.02 --missing 0.05`
    """
    with _one_line_errors():
        _check_free(out, force)

        from meta_hamiltonian.jobs.simulate import chosen_family
        from meta_hamiltonian.observations.instrument import Instrument, record

        instrument = Instrument(duration, rate, noise, missing, jitter, observed)
        system = chosen_family(family)
        with _new_folder(out) as folder:
            files = record(system, members, folder, instrument, seed)
        print(f"{len(files)} members of {system.name} lie in {out}: {files[0].name} to {files[-1].name}, members.csv.")


@app.command()
def adapt(
    run: Run,
    observations: Annotated[
        list[Path], typer.Argument(help="Files of observations, or a folder of them; see below for their forms.")
    ],
    horizon: Annotated[float, typer.Option(help="How long to predict, in the time units of the observations.")] = 20.0,
    start: Annotated[
        str | None, typer.Option("--from", help="Predict from this state, as q,p; else from the last observed one.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The new folder; else OBSERVATIONS-adapted beside you.")] = None,
    fit: Annotated[
        str, typer.Option(help="For trajectories: derivatives, orbit, or auto, the better one at their ends.")
    ] = "auto",
    friction: Annotated[
        str,
        typer.Option(
            help="none, viscous, quadratic, dry, several as viscous+dry, or auto: what the evidence supports."
        ),
    ] = "auto",
    inertia: Annotated[
        str | None,
        typer.Option(
            help="Where p was not observed, p = inertia · dq/dt: a number, or one for each coordinate; else 1, or that "
            "of the recordings that were learned from."
        ),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Which column is what, where names do not tell: q=theta,t=time or q=2,t=1.")
    ] = None,
    units: Annotated[str | None, typer.Option(help="Units, where the file does not tell them: q=deg,t=ms.")] = None,
    from_time: Annotated[float | None, typer.Option(help="Observe from this time on.")] = None,
    to_time: Annotated[
        float | None, typer.Option(help="Observe until this time, and predict from there; inputs are read beyond it.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Gradient steps; else as many as in training.")] = None,
    imports: Imports = None,
    force: Force = False,
) -> None:
    """Find the dynamics of a new system from a file of observations.

    Files: text with any separator, spreadsheets, `.json`, `.npz`, `.parquet`, `.mat`. Columns: `q,p,dq,dp` (states and
    derivatives), `t,q,p` or `t,q,v` (trajectories, several with a column `trajectory`), `t,q` or `t,v`; for n degrees
    of freedom `q1..qn` and so on; measured inputs `u` or `u1..uk` beside a trajectory. Other names and units are
    understood where they are clear, such as `Time (s)` and `angle [deg]`.

    Examples:

    `python -m meta_hamiltonian adapt outputs/ridge observations.csv`

    `python -m meta_hamiltonian adapt outputs/ridge swing.csv --from 1.2,0 --horizon 40 --out swing`

    `python -m meta_hamiltonian adapt outputs/ridge video.txt --units t=ms,q=deg --friction viscous`
    """
    with _one_line_errors():
        first = observations[0]
        out = Path(f"{first.stem or first.resolve().name}-adapted") if out is None else out
        _check_free(out, force)
        if not 0 < horizon < float("inf"):
            raise ValueError(f"--horizon must be a finite number above 0, got {horizon}")
        asked = None if inertia is None else _list("--inertia", inertia, 0.0)
        chosen = {"columns": _pairs("--columns", columns), "units": _pairs("--units", units)}
        began = time.perf_counter()
        trained = _load(run, imports)
        domain = trained.learner.net.domain
        defined = trained.settings.get("recordings", {}).get("inertia")
        masses = asked or defined or [1.0]

        import torch

        from meta_hamiltonian.inference import fit as fit_system
        from meta_hamiltonian.observations import read
        from meta_hamiltonian.reports.progress import progress

        torch.set_num_threads(1)  # the arrays are small: a second thread only waits
        first_state = None if start is None else torch.tensor(_state(start, domain.state_dim), dtype=torch.float64)
        reading = read(observations, domain, from_time=from_time, to_time=to_time, **chosen)
        with progress() as said:
            found = fit_system(
                trained.learner,
                reading.observations,
                fit,
                masses[0] if len(masses) == 1 else masses,
                steps,
                trained.validation_loss,
                friction,
                said,
                defined is not None and masses == defined,
            )
            found = dataclasses.replace(
                found, notes=[*reading.notes, *found.notes], warnings=[*_poor(trained), *found.warnings]
            )
            found = found if first_state is None else found.starting_from(first_state)
            said("writing the report", 0.9)
            names = ", ".join(str(path) for path in observations)
            _write(found, horizon, trained, (str(run), names), out, began)


def _write(fitted: "Fit", horizon: float, trained: "Trained", origin: tuple[str, str], out: Path, began: float) -> None:
    """Writes what was found, and says it."""
    from meta_hamiltonian.reports.system import Origin, write_system

    with _new_folder(out) as folder:
        written = write_system(fitted, horizon, Origin(*origin, trained.settings), folder)
    for name, value in (dict(written.table) | {"time": f"{time.perf_counter() - began:.2g} s"}).items():
        print(f"{name + ':':42s} {value}")
    for note in written.notes:
        print(f"Note: {note}")
    _warn(written.warnings)
    print(f"Everything lies in {out}: report.html, prediction.csv, figures, adapted.pt.")


@app.command()
def bands(
    run: Run,
    out: Annotated[Path, typer.Option(help="The new folder.")] = Path("bands"),
    n_systems: Annotated[int, typer.Option(min=1, help="New systems; a tenth is followed along orbits.")] = 1000,
    shots: Annotated[str, typer.Option(help="Numbers of observed points.")] = "5,25",
    noise: Annotated[str, typer.Option(help="Relative noise of the observations.")] = "0,0.05",
    seed: Annotated[int, typer.Option(min=0, help="Of the systems.")] = 0,
    device: Device = "cpu",
    imports: Imports = None,
    force: Force = False,
) -> None:
    """Check the credible bands on new systems: how often the truth lies inside them.

    A learner that was trained on recordings is checked on those of its test: how much of the later half lies inside.

    Example: `python -m meta_hamiltonian bands outputs/ridge`
    """
    with _one_line_errors():
        _check_free(out, force)
        ks, noises = [int(k) for k in _list("--shots", shots, 1.0)], _list("--noise", noise, 0.0)
        trained = _load(run, imports)

        from meta_hamiltonian.evaluation.coverage import coverage
        from meta_hamiltonian.evaluation.results import write_rows
        from meta_hamiltonian.figures import save
        from meta_hamiltonian.figures.learned import reliability

        if not trained.learner.has_posterior:
            kind = type(trained.learner).__name__
            raise ValueError(f"{run} holds a {kind}, which has no bands; train one with algo=ridge")
        _warn(_poor(trained))
        trained.learner.to(_device(device))
        orbits = max(1, n_systems // 10)
        if trained.system.domain_from_data:
            from meta_hamiltonian.jobs.recorded import bands_of_recordings

            found = bands_of_recordings(trained, lambda said: _warn([said]))
        else:
            found = list(coverage(trained.learner, trained.simulated, ks, noises, n_systems, orbits, seed))
        with _new_folder(out) as folder:
            rows = [dataclasses.asdict(row) for row in found]
            write_rows(folder / "coverage.csv", list(rows[0]), rows)
            save(reliability(found), folder / "reliability")
        for row in found:
            if not row.shots:
                print(f"{row.n_systems} recordings, what came later, {row.level:4.0%}: {row.observed:6.1%}")
                continue
            print(f"K={row.shots:<4d} noise={row.noise:<5g} {row.quantity:7s} {row.level:4.0%}: {row.observed:6.1%}")
        print(f"Everything lies in {out}: coverage.csv, reliability.png.")


@app.command()
def identify(
    run: Run,
    out: Annotated[Path, typer.Option(help="The new folder.")] = Path("identified"),
    n_systems: Annotated[int, typer.Option(min=4, help="New systems that it is adapted to.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of the systems.")] = 0,
    imports: Imports = None,
    force: Force = False,
) -> None:
    """Say what was learned: how many independent terms the family has, and whether the head knows its parameters.

    Where a learner was trained on recordings, the parameters are the numbers in members.csv.

    Example: `python -m meta_hamiltonian identify outputs/ridge`
    """
    with _one_line_errors():
        _check_free(out, force)
        trained = _load(run, imports)

        from meta_hamiltonian.evaluation.identify import identify
        from meta_hamiltonian.evaluation.results import write_rows
        from meta_hamiltonian.figures import save
        from meta_hamiltonian.figures.learned import terms

        _warn(_poor(trained))
        if trained.system.domain_from_data:
            from meta_hamiltonian.jobs.recorded import identify_recordings

            found = identify_recordings(trained)
        else:
            found = identify(trained.learner, trained.simulated, n_systems, seed)
        rows = [{"what": "error of the fields", "value": found.error}, {"what": "terms", "value": found.terms}]
        rows += [] if found.unknowns is None else [{"what": "unknowns of a head", "value": found.unknowns}]
        rows += [{"what": "latents", "value": found.latents}] if found.latents else []
        rows += [{"what": f"singular value {i}", "value": v} for i, v in enumerate(found.singular_values.tolist(), 1)]
        rows += [{"what": f"R² of {name}", "value": value} for name, value in found.r2.items()]
        with _new_folder(out) as folder:
            write_rows(folder / "identified.csv", ["what", "value"], rows)
            save(terms(found), folder / "terms")
        print(f"Independent terms of the family: {found.terms} (contributions above an error of {found.error:.2g})")
        if found.unknowns is not None:
            inside = f", and {found.latents} inside the law (latents)" if found.latents else ""
            print(f"Unknowns of a head: {found.unknowns}{inside}")
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
    imports: Imports = None,
    force: Force = False,
) -> None:
    """Write H and dx/dt of an adapted system for other programs, checked against it to 1e-6.

    Example: `python -m meta_hamiltonian export observations-adapted/adapted.pt pendulum.pt2`
    """
    with _one_line_errors():
        _check_free(file, force)
        _import(imports)

        from meta_hamiltonian import load_adapted
        from meta_hamiltonian.inference.export import export
        from meta_hamiltonian.learners.checkpoint import warnings_of_adapted

        system = load_adapted(adapted)
        _warn(warnings_of_adapted(adapted))
        export(system, file)
        outputs = "H [batch], dx/dt [batch, 2n]" if system.has_energy else "dx/dt [batch, 2n]; it has no energy"
        print(f"{file}: states x [batch, 2n] in float64 -> {outputs}.")


def _load(run: Path, imports: list[str] | None) -> "Trained":
    """What a training left; torch is imported here, since `--help` and many a refusal need not wait for it."""
    _import(imports)

    from meta_hamiltonian.learners.checkpoint import load_trained

    return load_trained(run)


def _device(name: str) -> str:
    """The device that an option names."""
    import torch

    if name not in ("cpu", "cuda", "auto"):
        raise ValueError(f"--device must be cpu, cuda or auto, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda is not allowed: no CUDA device was found; use cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def _poor(trained: "Trained") -> list[str]:
    """What is to be said of a learner that was not trained well."""
    from meta_hamiltonian.learners.quality import quality

    found = quality(trained)
    return [found.warning] if found is not None and found.warning is not None else []


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        print(f"Warning: {warning}")


def _import(modules: list[str] | None) -> None:
    """A user's modules, from where Python finds them or from the current folder."""
    if modules and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for module in modules or []:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(f"--import {module} is not allowed: {error}") from error


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


def _check_free(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists already; choose another name, or replace it with --force")


def _pairs(option: str, text: str | None) -> dict[str, str]:
    pairs = [part.partition("=") for part in (text or "").split(",") if part.strip()]
    if not all(name.strip() and equals and value.strip() for name, equals, value in pairs):
        raise ValueError(f"{option} must be pairs such as q=deg,t=ms, separated by commas, got {text!r}")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _list(option: str, text: str, least: float) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(least <= value < float("inf") for value in values):
        raise ValueError(f"{option} must be numbers of at least {least:g}, separated by commas, got {text!r}")
    return values


def _state(text: str, count: int) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count or not all(abs(value) < float("inf") for value in values):
        raise ValueError(f"--from must be {count} finite numbers separated by commas, got {text!r}")
    return values


if __name__ == "__main__":
    app()
