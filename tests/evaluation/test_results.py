import csv

import pytest

from meta_hamiltonian.evaluation.results import COLUMNS, write_rows

HEADER = (
    "system,model,algo,seed,inner_steps,noise,shots,steps,n_systems,n_diverged,"
    "field_mse_mean,field_mse_median,field_rel_median,"
    "state_mse_mean,state_mse_median,energy_mse_mean,energy_mse_median,adapt_seconds,state_rel_median,unknowns"
)


def test_the_columns_are_those_that_other_programs_read():
    assert ",".join(COLUMNS) == HEADER


ROWS = [{"shots": 25, "steps": 5, "algo": "maml, tuned"}, {"shots": 50, "steps": 5, "algo": 'a "b"'}]


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_read_back_as_they_were_written(tmp_path):
    path = tmp_path / "results.csv"
    write_rows(path, ("algo", "shots", "steps"), ROWS)
    assert path.read_text().splitlines()[0] == "algo,shots,steps"
    assert read(path) == [{name: str(value) for name, value in row.items()} for row in ROWS]
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]


def test_numbers_keep_all_their_digits(tmp_path):
    value = 0.1 + 0.2
    write_rows(tmp_path / "a.csv", ("x",), [{"x": value}])
    assert float(read(tmp_path / "a.csv")[0]["x"]) == value


def test_writing_again_replaces_the_file(tmp_path):
    path = tmp_path / "results.csv"
    write_rows(path, ("algo", "shots", "steps"), ROWS)
    write_rows(path, ("shots",), [{"shots": 1}])
    assert read(path) == [{"shots": "1"}]


class Unwritable:
    """Something that fails half-way through the table."""

    def __str__(self):
        raise OSError("no space left")


@pytest.mark.parametrize("row", [{"shots": 50, "unknown": 1}, {"shots": Unwritable()}], ids=["unknown", "unwritable"])
@pytest.mark.parametrize("existed", [True, False])
def test_a_table_that_cannot_be_finished_leaves_everything_as_it_was(row, existed, tmp_path):
    path = tmp_path / "results.csv"
    if existed:
        write_rows(path, ("shots",), [{"shots": 1}])
    with pytest.raises((ValueError, OSError)):
        write_rows(path, ("shots",), [{"shots": 25}, row])
    assert path.exists() == existed
    if existed:
        assert read(path) == [{"shots": "1"}]
    assert [file.name for file in tmp_path.iterdir()] == (["results.csv"] if existed else [])
