"""The figures of a sweep: the jobs of each family against each other, and all families at a glance."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from meta_hamiltonian.figures import Shown, comparison, fields_side_by_side, orbits_side_by_side, save
from meta_hamiltonian.figures.families import Family, families
from meta_hamiltonian.figures.methods import methods
from meta_hamiltonian.jobs.families import Row, by_algorithm, by_family, errors, without_common_overrides
from meta_hamiltonian.jobs.methods import of_methods

Draw = Callable[[Path, Sequence[Row]], Figure | None]
"""Makes a figure from the sweep's folder and rows of its jobs; None where too little is there."""
_MOST_SHOWN = 12  # jobs whose fields and orbits are drawn side by side


def draw(sweep: Path, finished: Sequence[Row]) -> None:
    """Brings the sweep's `figures/` up to date: draws those again that concern a job which has ended since.

    A sweep over one family has `comparison`, `fields` and `orbits`. A sweep over several has these for each family,
    such as `fields_spring`, since errors and axes of different domains have nothing in common; and `families`.
    """
    of_domains, of_families = _by_domain(sweep, finished), list(by_family(finished).values())
    figures: dict[str, tuple[Draw, Sequence[Row]]] = {}
    for rows in of_domains:
        figures["comparison" + _of(rows, of_domains)] = (_comparison, rows)
    for rows in of_families:
        figures["fields" + _of(rows, of_families)] = (_fields, rows)
        figures["orbits" + _of(rows, of_families)] = (_orbits, rows)
    if len(of_families) > 1:
        figures["families"] = (_families, finished)
    if of_methods(sweep, finished):
        figures["methods"] = (_methods, finished)

    folder = sweep / "figures"
    for name, (figure, rows) in figures.items():
        if not _is_current(folder / f"{name}.png", sweep, rows) and (drawn := figure(sweep, rows)) is not None:
            save(drawn, folder / name)
    for file in folder.iterdir():  # what there was while fewer families had finished
        if file.suffix in (".png", ".pdf") and file.stem not in figures:
            file.unlink()


def _comparison(_sweep: Path, rows: Sequence[Row]) -> Figure | None:
    return comparison(without_common_overrides(rows))


def _fields(sweep: Path, rows: Sequence[Row]) -> Figure | None:
    shown = _side_by_side(sweep, without_common_overrides(rows))
    return fields_side_by_side(shown) if len(shown) > 1 else None


def _orbits(sweep: Path, rows: Sequence[Row]) -> Figure | None:
    shown = _side_by_side(sweep, without_common_overrides(rows))
    return orbits_side_by_side(shown) if len(shown) > 1 else None


def _families(sweep: Path, rows: Sequence[Row]) -> Figure | None:
    found = [one for name, own in by_family(rows).items() if (one := _family(sweep, name, own)) is not None]
    return families(found) if len(found) > 1 else None


def _methods(sweep: Path, rows: Sequence[Row]) -> Figure | None:
    return methods(of_methods(sweep, rows))


def _is_current(file: Path, sweep: Path, rows: Sequence[Row]) -> bool:
    """Whether a figure is younger than everything that the jobs left for it."""
    left = [sweep / row["job"] / "results.csv" for row in rows] + [_shown(sweep, row) for row in rows]
    return file.exists() and all(one.stat().st_mtime < file.stat().st_mtime for one in left if one.exists())


def _of(rows: Sequence[Row], groups: Sequence[Sequence[Row]]) -> str:
    """The ending of the names of a group's figures."""
    return f"_{rows[0]['system']}" if len(groups) > 1 else ""


def _by_domain(sweep: Path, rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each domain: with and without friction states have the same units, and errors can be compared."""
    groups: dict[str, list[Row]] = {}
    for system, own in by_family(rows).items():
        files = (_shown(sweep, row) for row in own)
        domain = next((str(Shown.load_domain(file)) for file in files if file.exists()), system)
        groups.setdefault(domain, []).extend(own)
    return list(groups.values())


def _side_by_side(sweep: Path, rows: Sequence[Row]) -> dict[str, Shown]:
    """The systems that the first jobs show, as far as they are the same as that of the first."""
    files = {row["overrides"]: _shown(sweep, row) for row in rows}
    shown = {job: Shown.load(file) for job, file in list(files.items())[:_MOST_SHOWN] if file.exists()}
    first = next(iter(shown.values()), None)
    return {job: one for job, one in shown.items() if first is not None and one.is_of_the_same_system(first)}


def _family(sweep: Path, name: str, rows: Sequence[Row]) -> Family | None:
    """The system that the best algorithm shows of a family; None where no job has left one."""
    found = errors(rows)
    for best in sorted(found, key=lambda algorithm: found[algorithm]):
        for row in by_algorithm(rows)[best]:
            if (file := _shown(sweep, row)).exists():
                return Family(name, Shown.load(file), found)
    return None


def _shown(sweep: Path, row: Row) -> Path:
    return sweep / row["job"] / "figures" / "shown.npz"
