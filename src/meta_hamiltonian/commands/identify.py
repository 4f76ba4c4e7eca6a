"""`identify`: what was learned of the family."""

from pathlib import Path
from typing import Annotated

import typer

from meta_hamiltonian.commands.loading import load
from meta_hamiltonian.commands.options import Device, Force, Imports, Json, Run, device_of
from meta_hamiltonian.commands.output import Output, check_free, new_folder, one_line_errors
from meta_hamiltonian.commands.suggestions import next_command


def identify(
    run: Run = None,
    out: Annotated[Path, typer.Option(help="The new folder.")] = Path("identified"),
    n_systems: Annotated[int, typer.Option(min=4, help="How many new systems the learner is adapted to.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the systems.")] = 0,
    device: Device = "cpu",
    imports: Imports = None,
    force: Force = False,
    machine: Json = False,
) -> None:
    """Say what was learned: how many independent terms the family has, and whether the head knows its parameters.

    Where a learner was trained on recordings, the parameters are the numbers in members.csv.

    Example: `meta-hamiltonian identify outputs/ridge`
    """
    output = Output(machine)
    with one_line_errors():
        if run is None:
            raise ValueError(next_command("identify"))
        check_free(out, force)
        where = device_of(device)
        trained = load(run, imports)
        trained.learner.to(where)

        from meta_hamiltonian.evaluation.identify import identify as identified
        from meta_hamiltonian.evaluation.results import write_rows
        from meta_hamiltonian.figures import save
        from meta_hamiltonian.figures.learned import terms
        from meta_hamiltonian.learners.quality import poor
        from meta_hamiltonian.reports.progress import progress

        warnings = poor(trained)
        output.warn(warnings)
        with progress() as said:
            if trained.system.domain_from_data:
                from meta_hamiltonian.jobs.recorded import identify_recordings

                said("adapting to the recordings", 0.1)
                found = identify_recordings(trained)
            else:
                said(f"adapting to {n_systems} systems", 0.1)
                found = identified(trained.learner, trained.simulated, n_systems, seed)
        values = found.singular_values.tolist()
        rows = [{"what": "error of the fields", "value": found.error}, {"what": "terms", "value": found.terms}]
        rows += [] if found.unknowns is None else [{"what": "unknowns of a head", "value": found.unknowns}]
        rows += [{"what": "latents", "value": found.latents}] if found.latents else []
        rows += [{"what": f"singular value {i}", "value": value} for i, value in enumerate(values, 1)]
        rows += [{"what": f"R² of {name}", "value": value} for name, value in found.r2.items()]
        with new_folder(out) as folder:
            write_rows(folder / "identified.csv", ["what", "value"], rows)
            save(terms(found), folder / "terms")
        output.say(
            f"Independent terms of the family: {found.terms} (contributions above an error of {found.error:.2g})"
        )
        if found.unknowns is not None:
            inside = f", and {found.latents} inside the law (latents)" if found.latents else ""
            output.say(f"Unknowns of a head: {found.unknowns}{inside}")
        output.say("Contributions: " + ", ".join(f"{value:.2g}" for value in values[: found.terms + 3]))
        for name, value in found.r2.items():
            output.say(f"{name} as a linear function of the head: R² = {value:.6f}")
        output.say(f"Everything lies in {out}: identified.csv, terms.png.", fg="green")
        told = {"terms": found.terms, "unknowns": found.unknowns, "error": found.error, "r2": dict(found.r2)}
        output.finish({"out": out, **told, "singular_values": values, "warnings": warnings})
