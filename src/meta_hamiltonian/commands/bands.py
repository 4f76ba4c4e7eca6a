"""`bands`: how often the truth lies inside the credible bands."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from meta_hamiltonian.commands.loading import load
from meta_hamiltonian.commands.options import Device, Force, Imports, Json, Run, device_of, numbers
from meta_hamiltonian.commands.output import Output, check_free, new_folder, one_line_errors
from meta_hamiltonian.commands.suggestions import next_command


def bands(
    run: Run = None,
    out: Annotated[Path, typer.Option(help="The new folder.")] = Path("bands"),
    n_systems: Annotated[
        int, typer.Option(min=1, help="How many new systems; a tenth is followed along orbits.")
    ] = 1000,
    shots: Annotated[str, typer.Option(help="Numbers of observed points, joined by commas.")] = "5,25",
    noise: Annotated[str, typer.Option(help="Relative noises of the observations, joined by commas.")] = "0,0.05",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the systems.")] = 0,
    device: Device = "cpu",
    imports: Imports = None,
    force: Force = False,
    machine: Json = False,
) -> None:
    """Check the credible bands on new systems: how often the truth lies inside them.

    A learner that was trained on recordings is checked on those of its test: how much of the later half lies inside.

    Example: `meta-hamiltonian bands outputs/ridge`
    """
    output = Output(machine)
    with one_line_errors():
        if run is None:
            raise ValueError(next_command("bands"))
        check_free(out, force)
        where = device_of(device)
        ks, noises = [int(k) for k in numbers("--shots", shots, 1.0)], numbers("--noise", noise, 0.0)
        trained = load(run, imports)

        from meta_hamiltonian.evaluation.coverage import coverage
        from meta_hamiltonian.evaluation.results import write_rows
        from meta_hamiltonian.figures import save
        from meta_hamiltonian.figures.learned import reliability
        from meta_hamiltonian.learners.quality import poor
        from meta_hamiltonian.reports.progress import progress

        if not trained.learner.has_posterior:
            kind = type(trained.learner).__name__
            raise ValueError(f"{run} holds a {kind}, which has no bands; train one with algo=ridge")
        warnings = poor(trained)
        output.warn(warnings)
        trained.learner.to(where)
        orbits = max(1, n_systems // 10)
        with progress() as said:
            if trained.system.domain_from_data:
                from meta_hamiltonian.jobs.recorded import bands_of_recordings

                said("reading the recordings", 0.0)
                found = bands_of_recordings(trained, lambda line: output.warn([line]), said)
            else:
                said(f"drawing {n_systems} systems", 0.0)
                sizes = (ks, noises, n_systems, orbits, seed)
                found = list(coverage(trained.learner, trained.simulated, *sizes, said=said))
        rows = [dataclasses.asdict(row) for row in found]
        with new_folder(out) as folder:
            write_rows(folder / "coverage.csv", list(rows[0]), rows)
            save(reliability(found), folder / "reliability")
        for row in found:
            if not row.shots:
                output.say(f"{row.n_systems} recordings, what came later, {row.level:4.0%}: {row.observed:6.1%}")
                continue
            output.say(
                f"K={row.shots:<4d} noise={row.noise:<5g} {row.quantity:7s} {row.level:4.0%}: {row.observed:6.1%}"
            )
        output.say(f"Everything lies in {out}: coverage.csv, reliability.png.", fg="green")
        output.finish({"out": out, "coverage": rows, "warnings": warnings})
