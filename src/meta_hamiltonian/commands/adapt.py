"""`adapt`: the dynamics of a new system from a file of observations."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meta_hamiltonian.basics.plain_values import find_checkpoint, plain_value
from meta_hamiltonian.commands.loading import load
from meta_hamiltonian.commands.options import (
    Device,
    Force,
    Imports,
    Json,
    Run,
    device_of,
    import_modules,
    numbers,
    pairs,
    state,
)
from meta_hamiltonian.commands.output import Output, check_free, new_folder, one_line_errors
from meta_hamiltonian.commands.suggestions import next_command
from meta_hamiltonian.config.asked import check_fit, parse_friction

if TYPE_CHECKING:
    from meta_hamiltonian.dynamics.space import Axes
    from meta_hamiltonian.inference import Fit
    from meta_hamiltonian.learners.checkpoint import Trained
    from meta_hamiltonian.reports.system import Written


def adapt(
    run: Run = None,
    observations: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Files of observations, or a folder of them; see below for their forms.", show_default=False
        ),
    ] = None,
    horizon: Annotated[
        float | None,
        typer.Option(
            help="How long to predict, in the time units of the observations; by default 20, or twice as long as was "
            "recorded where that is less than 0.2 or more than 2000."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Predict from this state, as q,p; by default from the last observed one."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The new folder; by default OBSERVATIONS-adapted.")] = None,
    fit: Annotated[
        str,
        typer.Option(
            help="What is fitted to trajectories: derivatives, orbit, or auto: the orbit, unless derivatives predict "
            "the end of the trajectories clearly better."
        ),
    ] = "auto",
    friction: Annotated[
        str,
        typer.Option(
            help="none, viscous, quadratic, dry, several as viscous+dry, or auto, what the evidence supports."
        ),
    ] = "auto",
    inertia: Annotated[
        str | None,
        typer.Option(
            help="Where p was not observed, p = inertia · dq/dt: a number, or one for each coordinate; by default 1, "
            "or that of the recordings that the learner was trained on."
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
    steps: Annotated[int | None, typer.Option(help="Gradient steps; by default as many as in training.")] = None,
    device: Device = "cpu",
    imports: Imports = None,
    force: Force = False,
    machine: Json = False,
) -> None:
    """Find the dynamics of a new system from a file of observations.

    Files: text with any separator, spreadsheets, `.json`, `.npz`, `.parquet`, `.mat`. Columns: `q,p,dq,dp` (states and
    derivatives), `t,q,p` or `t,q,v` (trajectories, several with a column `trajectory`), `t,q` or `t,v`; for n degrees
    of freedom `q1..qn` and so on; measured inputs `u` or `u1..uk` beside a trajectory. Other names and units are
    understood where they are clear, such as `Time (s)` and `angle [deg]`.

    Examples:

    `meta-hamiltonian adapt outputs/ridge observations.csv`

    `meta-hamiltonian adapt outputs/ridge swing.csv --from 1.2,0 --horizon 40 --out swing`

    `meta-hamiltonian adapt outputs/ridge video.txt --units t=ms,q=deg --friction viscous`
    """
    output, began = Output(machine), time.perf_counter()
    with one_line_errors():
        if run is None or not observations:
            raise ValueError(next_command("adapt", needs_file=True))
        first = observations[0]
        out = Path(f"{first.stem or first.resolve().name}-adapted") if out is None else out
        check_free(out, force)
        if horizon is not None and not 0 < horizon < float("inf"):
            raise ValueError(f"--horizon must be a finite number above 0, got {horizon}")
        check_fit(fit)
        parse_friction(friction)
        asked = None if inertia is None else numbers("--inertia", inertia, 0.0)
        chosen: dict[str, Any] = {"columns": pairs("--columns", columns), "units": pairs("--units", units)}
        chosen |= {"from_time": from_time, "to_time": to_time}
        axes = _axes(run)
        import_modules(imports)
        reading = None if axes is None else _read(observations, axes, chosen)
        label = _labelled(observations)
        if axes is not None and start is not None:
            state(start, axes.state_dim)

        where = device_of(device)
        trained = load(run, None)
        trained.learner.to(where)
        domain = trained.learner.net.domain
        reading = _read(observations, domain, chosen) if reading is None else reading
        defined = trained.settings.get("recordings", {}).get("inertia")
        if asked and domain.defines_momenta:
            raise ValueError(
                f"--inertia {inertia} is not allowed here: the momenta of this family are M(q) dq/dt, and a recording "
                "tells the mass matrix M of its member; leave it out"
            )
        masses = asked or defined or [1.0]

        import torch

        from meta_hamiltonian.inference import fit as fit_system
        from meta_hamiltonian.learners.quality import poor
        from meta_hamiltonian.reports.prediction import usual_horizon
        from meta_hamiltonian.reports.progress import progress
        from meta_hamiltonian.reports.system import Origin, write_system

        horizon = usual_horizon(reading.observations) if horizon is None else horizon
        torch.set_num_threads(1)  # the arrays are small: a second thread only waits
        first_state = None if start is None else torch.tensor(state(start, domain.state_dim), dtype=torch.float64)
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
                found, notes=[*reading.notes, *found.notes], warnings=[*poor(trained), *found.warnings]
            )
            found = found if first_state is None else found.starting_from(first_state)
            said("writing the report", 0.9)
            with new_folder(out) as folder:
                origin = Origin(str(run), label, trained.settings)
                written = write_system(found, trained.learner, horizon, origin, folder)
        _say(output, written, out, time.perf_counter() - began)
        output.finish(_result(found, written, trained, out, horizon))


def _axes(run: Path) -> "Axes | None":
    """The coordinates that a run's checkpoint names, read without PyTorch; None in one of an earlier version."""
    settings = plain_value(find_checkpoint(run), "meta_hamiltonian")
    if not isinstance(settings, Mapping) or "domain" not in settings:
        return None

    from meta_hamiltonian.dynamics.space import Axes

    return Axes.from_settings(settings["domain"])


def _labelled(observations: Sequence[Path]) -> str:
    """The names of the files, with what a `members.csv` beside them says of the member."""
    from meta_hamiltonian.observations.kinds import stem
    from meta_hamiltonian.observations.known import known_of, known_words

    names = ", ".join(str(path) for path in observations)
    first = observations[0]
    try:
        known = known_of(first.parent).get(first.name if first.is_dir() else stem(first), {})
    except ValueError:  # a table of another form, which nobody has asked for
        known = {}
    return f"{names} ({known_words(known)})" if known else names


def _read(observations: Sequence[Path], axes: Any, chosen: Mapping[str, Any]) -> Any:
    from meta_hamiltonian.observations.read import read

    return read(observations, axes, **chosen)


def _say(output: Output, written: "Written", out: Path, seconds: float) -> None:
    for name, value in (dict(written.table) | {"time": f"{seconds:.2g} s"}).items():
        output.say(f"{name + ':':44s} {value}")
    for note in written.notes:
        output.say(f"Note: {note}", dim=True)
    output.warn(written.warnings)
    output.say(f"Everything lies in {out}: report.html, prediction.csv, figures, adapted.pt.", fg="green")


def _result(found: "Fit", written: "Written", trained: "Trained", out: Path, horizon: float) -> dict[str, Any]:
    gains = [{"value": value, "deviation": deviation} for value, deviation in found.gains]
    return {
        "out": out,
        "report": out / "report.html",
        "prediction": out / "prediction.csv",
        "adapted": out / "adapted.pt",
        "fit": found.how,
        "points": len(found.x),
        "coordinates": trained.learner.net.domain.names,
        "start": found.start.tolist(),
        "start_time": found.start_time,
        "horizon": horizon,
        "residual_before": found.residual_before,
        "residual": found.residual,
        "held_out": found.held_out,
        "friction": {kind: {"value": value, "deviation": d} for kind, (value, d) in found.friction.items()},
        "gains": gains,
        "table": written.table,
        "notes": list(written.notes),
        "warnings": list(written.warnings),
    }
