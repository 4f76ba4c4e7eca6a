"""`simulate`: recordings of a family whose law is known."""

from pathlib import Path
from typing import Annotated

import typer

from meta_hamiltonian.commands.options import Force, Json
from meta_hamiltonian.commands.output import Output, check_free, new_folder, one_line_errors


def simulate(
    family: Annotated[
        list[str], typer.Argument(help="The family, such as system=pendulum, and other keys of train that describe it.")
    ],
    out: Annotated[Path, typer.Option(help="The new folder.")] = Path("recordings"),
    members: Annotated[int, typer.Option(min=1, help="How many members.")] = 50,
    duration: Annotated[
        float | None, typer.Option(help="How long each recording is; by default half the family's horizon.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Instants per unit of time; by default 300 instants in all.")
    ] = None,
    noise: Annotated[
        float, typer.Option(help="Size of the errors, relative to the standard deviation of each column.")
    ] = 0.01,
    missing: Annotated[float, typer.Option(help="Part of the cells that are empty.")] = 0.0,
    jitter: Annotated[float, typer.Option(help="Irregularity of the intervals, relative to their mean.")] = 0.0,
    observed: Annotated[str, typer.Option(help="The columns beside t: q,p or q,v or q.")] = "q,p",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the members and of the noise.")] = 0,
    force: Force = False,
    machine: Json = False,
) -> None:
    """Simulate recordings of a family: a folder with a file for each member, and members.csv with their parameters.

    Examples:

    `meta-hamiltonian simulate system=pendulum --members 50 --out pendulums`

    `meta-hamiltonian simulate system=duffing +friction=viscous friction.high=0.1 --noise 0.02 --missing 0.05`
    """
    output = Output(machine)
    with one_line_errors():
        check_free(out, force)

        from meta_hamiltonian.jobs.simulate import chosen_family

        system = chosen_family(family)

        from meta_hamiltonian.observations.forms import counted
        from meta_hamiltonian.observations.instrument import Instrument, record

        instrument = Instrument(duration, rate, noise, missing, jitter, observed)
        with new_folder(out) as folder:
            files = record(system, members, folder, instrument, seed)
        names = " to ".join(dict.fromkeys((files[0].name, files[-1].name)))
        lie = "lies" if len(files) == 1 else "lie"
        said = f"{counted(len(files), 'member')} of {system.name} {lie} in {out}: {names}, members.csv."
        output.say(said)
        output.finish({"out": out, "system": system.name, "files": [file.name for file in files]})
