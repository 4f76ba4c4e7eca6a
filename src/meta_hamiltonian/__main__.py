"""`meta-hamiltonian`, or `python -m meta_hamiltonian`: trains a learner, and uses it on systems of your own."""

from importlib.metadata import version
from typing import Annotated

import typer

from meta_hamiltonian.commands.adapt import adapt
from meta_hamiltonian.commands.bands import bands
from meta_hamiltonian.commands.export import export
from meta_hamiltonian.commands.identify import identify
from meta_hamiltonian.commands.simulate import simulate
from meta_hamiltonian.commands.train import train
from meta_hamiltonian.jobs.threads import wait_passively

# Rich is not used for `--help`: it would take half a second to draw frames.
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)

app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
    no_args_is_help=False,
)(train)
for command in (simulate, adapt, bands, identify, export):
    app.command()(command)


def _version(asked: bool) -> bool:
    if asked:
        typer.echo(version("meta-hamiltonian"))
        raise typer.Exit
    return asked


@app.callback()
def main(
    _: Annotated[bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)] = False,
) -> None:
    """Meta-learn the Hamiltonian of a family of systems, and find the dynamics of a new one."""
    wait_passively()


if __name__ == "__main__":
    app()
