"""`meta-hamiltonian`, or `python -m meta_hamiltonian`: trains a learner, and uses it on systems of your own."""

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


@app.callback()
def main() -> None:
    """Meta-learn the Hamiltonian of a family of systems, and find the dynamics of a new one."""
    wait_passively()


if __name__ == "__main__":
    app()
