"""Collects what was measured and prints it as the README's table."""

import statistics
import sys
from collections import defaultdict
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "peers")]

SPEEDS = pytest.StashKey[dict]()
OURS = ("this, compiled", "this, eager")


def pytest_configure(config):
    config.stash[SPEEDS] = defaultdict(list)


@pytest.fixture
def record(request):
    """Keeps a speed under the name of its row and column."""
    return lambda row, column, speed: request.config.stash[SPEEDS][row, column].append(speed)


def pytest_terminal_summary(terminalreporter, config):
    speeds = {key: statistics.median(values) for key, values in config.stash[SPEEDS].items()}
    if not speeds:
        return
    columns = sorted({column for _, column in speeds}, reverse=True, key=lambda c: (c[0], -c[1]))
    rows = list(dict.fromkeys(row for row, _ in speeds))
    write = terminalreporter.write_line
    write("")
    write("Tasks per second of one outer step (medians), and in brackets how many times as fast this library is:")
    write("compiled, eager. Of the machine's best: compiled, eager.")
    write("")
    write("| | " + " | ".join(f"{name}, {tasks} tasks" for name, tasks in columns) + " |")
    write("|---" * (len(columns) + 1) + "|")
    for row in rows:
        cells = [_cell(speeds, row, column) for column in columns]
        write(f"| {row} | " + " | ".join(cells) + " |")


def _cell(speeds, row, column):
    if (row, column) not in speeds:
        return "–"
    speed = speeds[row, column]
    ours = [speeds[name, column] for name in OURS if (name, column) in speeds]
    if row.startswith("this"):
        return f"{speed:,.0f}"
    if row.startswith("the machine"):
        return f"{speed:,.0f} (" + ", ".join(f"{own / speed:.0%}" for own in ours) + ")"
    return f"{speed:,.0f} (" + ", ".join(f"{own / speed:.1f}" for own in ours) + ")"
