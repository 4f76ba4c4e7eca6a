"""Files are there whole or not at all."""

import multiprocessing
import os
import resource
import signal
import time

import pytest

from meta_hamiltonian.basics.exceptions import StorageError
from meta_hamiltonian.basics.files import whole_file, write_text


def test_a_file_is_written_and_replaced(tmp_path):
    write_text(tmp_path / "a", "one")
    write_text(tmp_path / "a", "two")
    assert (tmp_path / "a").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def beyond_the_quota(path, outcome):
    """In a process that may write no file longer than a kilobyte."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        write_text(path, "x" * 10_000)
    except StorageError as error:
        outcome.put(str(error))


def test_what_does_not_fit_is_said_in_one_line_and_harms_nothing(tmp_path):
    write_text(tmp_path / "a", "before")
    context = multiprocessing.get_context("spawn")
    outcome = context.Queue()
    process = context.Process(target=beyond_the_quota, args=(tmp_path / "a", outcome))
    process.start()
    message = outcome.get(timeout=120)
    process.join(120)
    assert message.startswith(f"{tmp_path / 'a'} could not be written (File too large)")
    assert "\n" not in message
    assert (tmp_path / "a").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def write_for_ever(path):
    number = 0
    while True:
        number += 1
        write_text(path, f"{number} " * 20_000)


def test_a_process_that_is_killed_while_it_writes_leaves_a_whole_file(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=write_for_ever, args=(tmp_path / "a",))
    process.start()
    while not (tmp_path / "a").exists():
        time.sleep(0.01)
    time.sleep(0.2)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    numbers = (tmp_path / "a").read_text().split()
    assert len(numbers) == 20_000
    assert len(set(numbers)) == 1


def test_an_error_of_the_writer_is_its_own(tmp_path):
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a"):
        1 / 0  # noqa: B018
    assert not (tmp_path / "a").exists()
