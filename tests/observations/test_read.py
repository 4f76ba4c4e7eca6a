"""Files of observations: every form that is read, and what is said about every one that is not."""

import io
import os
import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

from meta_hamiltonian.observations import Derivatives, ObservationError, Trajectory, read_observations

RANDOM = np.random.default_rng(0)
STATES = RANDOM.normal(size=(5, 8)) * np.array([1, 10, 1e-3, 1e5, 1, 1, 1, 1])


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(names, values):
    """A CSV with every digit of the values."""
    lines = [",".join(repr(float(value)) for value in row) for row in values]
    return "\n".join([names, *lines]) + "\n"


def refused(path, state_dim=2):
    """The message about a file, without its name, which must be there."""
    with pytest.raises(ObservationError) as caught:
        read_observations(path, state_dim)
    message = str(caught.value)
    assert message.isprintable(), "one line"
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def one(observed):
    """The only trajectory."""
    assert isinstance(observed, list)
    (trajectory,) = observed
    assert isinstance(trajectory, Trajectory)
    return trajectory


def same(array, expected):
    expected = np.asarray(expected, dtype=np.float64)
    assert array.dtype == np.float64
    assert array.shape == expected.shape
    np.testing.assert_array_equal(array, expected)


# What is read


@pytest.mark.parametrize("names", ["q,p,dq,dp", "q1,p1,dq1,dp1"])
def test_states_and_derivatives(names, tmp_path):
    observed = read_observations(write(tmp_path / "a.csv", table(names, STATES[:, :4])), 2)
    assert isinstance(observed, Derivatives)
    same(observed.x, STATES[:, :2])
    same(observed.dxdt, STATES[:, 2:4])


def test_states_and_derivatives_with_two_degrees_of_freedom(tmp_path):
    path = write(tmp_path / "a.csv", table("q1,q2,p1,p2,dq1,dq2,dp1,dp2", STATES))
    observed = read_observations(path, 4)
    same(observed.x, STATES[:, :4])
    same(observed.dxdt, STATES[:, 4:])


def test_the_order_of_columns_is_free(tmp_path):
    names = np.array(["q1", "q2", "p1", "p2", "dq1", "dq2", "dp1", "dp2"])
    order = np.random.default_rng(1).permutation(8)
    observed = read_observations(write(tmp_path / "a.csv", table(",".join(names[order]), STATES[:, order])), 4)
    same(observed.x, STATES[:, :4])
    same(observed.dxdt, STATES[:, 4:])
    trajectory = one(read_observations(write(tmp_path / "b.csv", "p,t,q\n1,0,2\n3,1,4\n5,2,6\n"), 2))
    same(trajectory.t, [0, 1, 2])
    same(trajectory.q, [[2], [4], [6]])
    same(trajectory.p, [[1], [3], [5]])


def test_more_than_nine_degrees_of_freedom_keep_their_order(tmp_path):
    names = ["t", *(f"{kind}{i + 1}" for kind in "qp" for i in range(11))]
    values = np.column_stack([np.arange(3), RANDOM.normal(size=(3, 22))])
    trajectory = one(read_observations(write(tmp_path / "a.csv", table(",".join(names), values)), 22))
    same(trajectory.q, values[:, 1:12])
    same(trajectory.p, values[:, 12:])


def test_states_with_derivatives_need_no_times(tmp_path):
    text = "trajectory,q,t,p,dq,dp\nb,1,0,2,3,4\na,5,,6,7,8\n,9,-1,10,11,12\n"
    observed = read_observations(write(tmp_path / "a.csv", text), 2)
    same(observed.x, [[1, 2], [5, 6], [9, 10]])
    same(observed.dxdt, [[3, 4], [7, 8], [11, 12]])


def test_one_state_with_its_derivative_is_enough(tmp_path):
    observed = read_observations(write(tmp_path / "a.csv", "q,p,dq,dp\n1,2,3,4"), 2)
    same(observed.x, [[1, 2]])


def quantities(trajectory):
    return {name: value for name in "qpv" if (value := getattr(trajectory, name)) is not None}


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(("kinds", "instants"), [("qp", 3), ("qv", 3), ("q", 4)])
def test_a_trajectory(kinds, instants, n, tmp_path):
    values = RANDOM.normal(size=(instants, n * len(kinds)))
    t = np.cumsum(RANDOM.uniform(0.1, 1, instants)) - 1
    names = [kind if n == 1 else f"{kind}{i + 1}" for kind in kinds for i in range(n)]
    path = write(tmp_path / "a.csv", table(",".join(["t", *names]), np.column_stack([t, values])))
    trajectory = one(read_observations(path, 2 * n))
    same(trajectory.t, t)
    assert trajectory.name == ""
    assert list(quantities(trajectory)) == list(kinds)
    for i, value in enumerate(quantities(trajectory).values()):
        same(value, values[:, i * n : (i + 1) * n])


def test_several_trajectories_come_in_the_order_of_their_first_rows(tmp_path):
    text = "t,trajectory,q,p\n0,second 2,1,2\n5,1.0,3,4\n1,second 2,5,6\n6,1.0,7,8\n2,second 2,9,10\n7,1.0,11,12\n"
    first, second = read_observations(write(tmp_path / "a.csv", text), 2)
    assert (first.name, second.name) == ("second 2", "1.0")
    same(first.t, [0, 1, 2])
    same(first.q, [[1], [5], [9]])
    same(second.t, [5, 6, 7])
    same(second.p, [[4], [8], [12]])


PLAIN = "q,p,dq,dp\n1,-2,0.03,4e5\n5,6,7,8\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.rstrip("\n"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        "\ufeff" + PLAIN,
        "\n \n# a, comment\n" + PLAIN.replace("\n", "\n\t\n  # another; one\n#\n"),
        " q ,p,\tdq, dp \n 1,-2 , 0.03,\t4e5\n5,6,7,8 \n",
        '"q","p" , "dq","dp"\n"1", "-2","0.03" ,"4e5"\n5,6,"7",8\n',
        PLAIN.replace(",", ";"),
        '# made by, me\n"q"; p ;dq;dp\n1;-2;"0.03";4e5\n5;6;7;8\n',
        "q,p,dq,dp\n+1.,-2.0,.03,+4E+05\n0.5e1,6e0,7,80e-1\n",
        PLAIN.encode("utf-16"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", "  "),
        PLAIN.replace(",", ";").replace(".", ","),
        PLAIN.replace("\n", ",\n"),
        PLAIN + "1,nan,3,4\n1,2,,4\n",
    ],
    ids=[
        *(
            "plain",
            "no end",
            "CRLF",
            "CR",
            "BOM",
            "blank, comments",
            "spaces",
            "quotes",
            "semicolons",
            "all",
            "numbers",
        ),
        *("UTF-16", "tabs", "blanks", "decimal commas", "a comma at the end", "gaps"),
    ],
)
def test_ways_to_write_the_same(content, tmp_path):
    observed = read_observations(write(tmp_path / "a.CSV", content), 2)
    same(observed.x, [[1, -2], [5, 6]])
    same(observed.dxdt, [[0.03, 4e5], [7, 8]])


def test_a_quoted_label_may_hold_what_separates(tmp_path):
    text = 'trajectory,t,q,p\n"a, ""b"" ,c" ,0,1,2\n"a, ""b"" ,c",1,3,4\n"#1; x",0,5,6\n"a, ""b"" ,c",2,3,4\n'
    text += '"#1; x",1,5,6\n"#1; x",2,5,6\n'
    assert [each.name for each in read_observations(write(tmp_path / "a.csv", text), 2)] == ['a, "b" ,c', "#1; x"]


def test_a_path_may_be_text(tmp_path):
    same(read_observations(str(write(tmp_path / "a.csv", PLAIN)), 2).x, [[1, -2], [5, 6]])


# NPZ

SAVERS = [np.savez, np.savez_compressed]


def save(path, saver=np.savez, **arrays):
    saver(path, **arrays)
    return path


@pytest.mark.parametrize("saver", SAVERS)
@pytest.mark.parametrize("shape", ["flat", "numbered", "matrix"])
def test_arrays_with_one_degree_of_freedom(shape, saver, tmp_path):
    end, values = ("1", STATES) if shape == "numbered" else ("", STATES[:, None] if shape == "matrix" else STATES)
    arrays = {f"{name}{end}": values[..., i] for i, name in enumerate(["q", "p", "dq", "dp"])}
    if shape == "matrix":
        arrays = {name: value.reshape(-1, 1) for name, value in arrays.items()}
    observed = read_observations(save(tmp_path / "a.npz", saver, **arrays, t=np.array(["not", "read"])), 2)
    same(observed.x, STATES[:, :2])
    same(observed.dxdt, STATES[:, 2:4])


@pytest.mark.parametrize("numbered", [False, True])
def test_arrays_with_two_degrees_of_freedom(numbered, tmp_path):
    if numbered:
        arrays = {f"{name}{i + 1}": STATES[:, 2 * j + i] for i in range(2) for j, name in enumerate(["q", "v"])}
    else:
        arrays = {"q": STATES[:, :2], "v": STATES[:, 2:4]}
    trajectory = one(read_observations(save(tmp_path / "a.npz", t=np.arange(5), **arrays), 4))
    same(trajectory.t, np.arange(5))
    same(trajectory.q, STATES[:, :2])
    same(trajectory.v, STATES[:, 2:4])
    assert trajectory.p is None
    arrays = {name: STATES[:, 2 * i : 2 * i + 2] for i, name in enumerate(["q", "p", "dq", "dp"])}
    observed = read_observations(save(tmp_path / "b.npz", **arrays), 4)
    same(observed.x, STATES[:, :4])
    same(observed.dxdt, STATES[:, 4:])


@pytest.mark.parametrize("dtype", ["float16", "float32", ">f8", "longdouble", "int8", "uint64"])
def test_arrays_of_other_numbers_become_float64(dtype, tmp_path):
    q = np.array([1, 2, 3, 4]).astype(dtype)
    same(one(read_observations(save(tmp_path / "a.npz", t=q, q=q), 2)).q, [[1], [2], [3], [4]])


@pytest.mark.parametrize(
    ("labels", "names"), [(["b", " a ", "b", "a"], ["b", "a"]), ([7, -1, 7, -1], ["7", "-1"]), ([2.5, 1, 2.5, 1], None)]
)
def test_arrays_of_several_trajectories(labels, names, tmp_path):
    path = save(
        tmp_path / "a.npz",
        trajectory=np.tile(labels, 2),
        t=np.repeat([0.0, 1, 2, 3], 2),
        q=np.arange(8),
    )
    first, second = read_observations(path, 2)
    assert [first.name, second.name] == (names or ["2.5", "1.0"])
    same(first.q, [[0], [2], [4], [6]])
    same(second.q, [[1], [3], [5], [7]])


# What is refused, and how


FORMS = "give q,p,dq,dp or t,q,p or t,q,v or t,q"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", f"the file is empty; {FORMS}"),
        ("\n# q,p\n  \n", f"it has no header, only blank lines and comments; {FORMS}"),
        ("# t,q\nt,q\n\n", "it names its columns and has no rows; add at least one observation"),
        ("1,2,3,4\n5,6,7,8\n", "line 1: it holds numbers where the columns should be named; begin with q,p,dq,dp or"),
        ("0,0,1,1\n", "line 1: it holds numbers where the columns should be named; begin with q,p,dq,dp or"),
        # names
        ("q,p,dq\n1,2,3\n", f"line 1: it lacks column dp for the nearest form q,p,dq,dp; {FORMS}"),
        ("q,p,dp\n1,2,3\n", f"line 1: it lacks column dq for the nearest form q,p,dq,dp; {FORMS}"),
        ("\n\nq,p\n1,2\n", f"line 3: it lacks column t for the nearest form t,q,p; {FORMS}"),
        ("t\n1\n", f"line 1: it lacks column q for the nearest form t,q; {FORMS}"),
        ("trajectory\n1\n", f"line 1: it lacks columns t, q for the nearest form t,q; {FORMS}"),
        ("t,p\n1,2\n", f"line 1: it lacks column q for the nearest form t,q,p; {FORMS}"),
        ("t,v\n1,2\n", "line 2: the trajectory ends after 1 instant; with t,v it needs at least 4"),
        ("t,q,p,dq\n1,2,3,4\n", f"line 1: it lacks column dp for the nearest form q,p,dq,dp; {FORMS}"),
        ("t,q,dq\n1,2,3\n", "line 2: the trajectory ends after 1 instant; with t,q,v it needs at least 3"),
        ("t,q,p,v\n1,2,3,4\n", f"line 1: p and v together are no form; leave one of them out: {FORMS}"),
        ("q,p,v,dq,dp\n1,2,3,4,5\n", f"line 1: it has superfluous column v for the nearest form q,p,dq,dp; {FORMS}"),
        ("q,p,v,dq\n1,2,3,4\n", "line 1: it lacks column dp and has superfluous column v for the nearest form q,p,d"),
        ("t,q,p,t\n1,2,3,4\n", "line 1: repeated column 't'; keep one of each"),
        (
            "t,q,E,Q\n1,2,3,4\n",
            "line 1: columns 'q' and 'Q' could each be q; say which it is: --columns q=q or --columns q",
        ),
        ("t,E,F\n1,2,3\n", f"line 1: unknown columns 'E', 'F'; {FORMS}"),
        ("t,q,E,t,q\n1,2,3,4,5\n", "line 1: repeated columns 't', 'q'; keep one of each"),
        ("t,q0\n1,2\n", f"line 1: unknown column 'q0'; {FORMS}"),
        ("t,q01\n1,2\n", f"line 1: unknown column 'q01'; {FORMS}"),
        ("t,q²\n1,2\n", f"line 1: unknown column 'q²'; {FORMS}"),
        ("t,q;p\n1,2;3\n", f"line 1: it lacks column q for the nearest form t,q,p; {FORMS}"),
        (",q,p\n0,1,2\n", f"line 1: it lacks column t for the nearest form t,q,p; {FORMS}"),
        ("t,q,p1\n1,2,3\n", "line 1: columns q and p1 do not fit; number all, or none"),
        ("t,q2\n1,2\n", f"line 1: it lacks column q1 for the nearest form t,q1,q2; {FORMS}"),
        ("t,q999999\n1,2\n", "line 1: column q999999 skips numbers; number from 1 on"),
        (f"t,q{'9' * 5000}\n1,2\n", f"line 1: unknown column 'q{'9' * 36}...'; {FORMS}"),
        ("a,b,c,d,e,f\n", f"line 1: unknown columns 'a', 'b', 'c', 'd', 'e', 'f'; {FORMS}"),
        ("a,b,c,d,e,f,g,h\n", "line 1: unknown columns 'a', 'b', 'c', 'd', 'e', 'f' and 2 more"),
        # cells
        ("q,p,dq,dp\n1,2,x,4\n", "line 2: column dq: 'x' is not a number; write numbers as 1.5 or -2e-3"),
        ("\nq,p,dq,dp\n1,2,3,4\n\n# x\n1,2,3,1_0\n", "line 6: column dp: '1_0' is not a number; write numbers as"),
        ("q,p,dq,dp\r\n1,2,0x1,4\r\n", "line 2: column dq: '0x1' is not a number; write numbers as"),
        ("q,p,dq,dp\n1,٣,3,4\n", "line 2: column p: '٣' is not a number; write numbers as"),
        ("q,p,dq,dp\n1,2,3,1e\n", "line 2: column dp: '1e' is not a number; write numbers as"),
        ("q,p,dq,dp\n1,2,3,.\n", "line 2: column dp: '.' is not a number; write numbers as"),
        ("q,p,dq,dp\n1,2,3,1 2\n", "line 2: column dp: '1 2' is not a number; write numbers as"),
        ("q,p,dq,dp\n1,2,3,\x1b[1m\n", r"line 2: column dp: '\x1b[1m' is not a number"),
        ("q;p;dq;dp\n1.5;2.5;3;4\n1.5;2,5;3;4\n", "line 3: column p: '2,5' is not a number; decimals have a point"),
        ("q,p,dq,dp\n1,2,,4\n", "every row has an empty cell; fill some"),
        ('q,p,dq,dp\n1,"",3,4\n', "every row has an empty cell; fill some"),
        ("q,p,dq,dp\n1,2,3,-Inf\n", "line 2: column dp: -Inf is not a finite number; leave out the line"),
        ("q,p,dq,dp\n1,2,3,1e999\n", "line 2: column dp: '1e999' is infinite as a 64-bit number; leave out the"),
        (f"q,p,dq,dp\n1,2,3,{'9' * 5000}\n", f"line 2: column dp: '{'9' * 37}...' is infinite as a 64-bit"),
        ("q,p,dq,dp\n1,2,3,4\n1,2,3\n", "line 3: it has 3 cells, the header 4; give one for each column"),
        ("q,p,dq,dp\n1\n", "line 2: it has 1 cell, the header 4; give one for each column"),
        ("q,p,dq,dp\n1,2,3,4,5\n", "line 2: it has 5 cells, the header 4; give one for each column"),
        ('q,p,dq,dp\n"1,2,3,4\n5,6,7,8\n', "line 2: it cannot be split into cells (unexpected end of data); check its"),
        ('q,p,dq,dp\n1,2,"3"4,5\n', "line 2: it cannot be split into cells ("),
        (f"q,p,dq,dp\n1,2,3,{'9' * 200_000}\n", "line 2: it cannot be split into cells (field larger than"),
        # no text
        (b"q,p,dq,dp\n1,2,3,4\r1,2,3,\xb5\n", "line 3: column dp: 'µ' is not a number; write numbers as"),
        (b"q,p,dq,dp\n1,2,3,4\r1,2,3,\x81\n", "line 3: byte 0x81 is not UTF-8 text; save it as UTF-8 CSV"),
        (b"\xef\xbb\xbfq,p,dq,dp\n1,2,3,4\n1,2,3,\xb5\n", "line 3: byte 0xb5 is not UTF-8 text; save it as UTF-8 CSV"),
        ("\0q,p,dq,dp\n", "line 1: it holds a NUL byte, so it is no text; save it as UTF-8 CSV"),
        ("q,p,dq,dp\r\n1,2,3,4\0\n", "line 2: it holds a NUL byte, so it is no text; save it as UTF-8 CSV"),
        # trajectories
        ("t,q,p\n0,1,2\n1,1,2\n", "line 3: the trajectory ends after 2 instants; with t,q,p it needs at least 3"),
        ("t,q,v\n0,1,2\n1,1,2\n", "line 3: the trajectory ends after 2 instants; with t,q,v it needs at least 3"),
        ("t,q\n0,1\n1,1\n2,1\n", "line 4: the trajectory ends after 3 instants; with t,q it needs at least 4"),
        ("t,q\n0,1\n", "line 2: the trajectory ends after 1 instant; with t,q it needs at least 4"),
        (
            "trajectory,t,q,p\na,0,1,2\na,1,1,2\na,2,1,2\nb,0,1,2\n",
            "line 5: trajectory 'b' ends after 1 instant; with t,q,p it needs at least 3",
        ),
        ("trajectory,t,q,p\na,0,1,2\n,1,1,2\n", "line 3: column trajectory: the cell is empty; fill it, or leave out"),
        (
            "t,q,p\n0,1,2\n0.5,1,2\n#\n0.25,1,2\n",
            "line 5: column t: 0.25 is not after 0.5 (line 3) in the trajectory; sort by time, or name each trajectory "
            "in a column trajectory",
        ),
        (
            "t,q,p\n0,1,2\n1,1,2\n1,1,2\n",
            "line 3: the trajectory ends after 2 instants; with t,q,p it needs at least 3",
        ),
        (
            "t,q,p\n0,1,2\n1,1,2\n\n1,1,3\n",
            "line 5: column t: 1.0 stands in line 3 too, with other values; keep one of",
        ),
        (
            "trajectory,t,q,p\na,0,1,2\nb,-1,1,2\na,1,1,2\nb,0,1,2\na,0.5,1,2\nb,1,1,2\n",
            "line 6: column t: 0.5 is not after 1.0 (line 4) in trajectory 'a'; sort by time",
        ),
        # dimensions
        (
            "t,q1,q2,p1,p2\n1,2,3,4,5\n",
            "line 1: the file has n=2 degrees of freedom, the model n=1; give observations of",
        ),
    ],
)
def test_what_is_said_about_a_file(content, message, tmp_path):
    assert refused(write(tmp_path / "a.csv", content)).startswith(message)


def test_a_column_of_trajectories_is_proposed_where_there_is_none(tmp_path):
    text = "t,q,p\n0,1,2\n1,1,2\n0,1,2\n"
    assert refused(write(tmp_path / "a.csv", text)).endswith("name each trajectory in a column trajectory")
    labelled = text.replace("\n", "\na,").removesuffix("a,").replace("t,q", "trajectory,t,q")
    assert refused(write(tmp_path / "b.csv", labelled)).endswith("in trajectory 'a'; sort by time")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("q,p,dq,dp", "line 1: the file has n=1 degrees of freedom, the model n=2"),
        ("t,q1,q2,q3", "line 1: the file has n=3 degrees of freedom, the model n=2"),
        ("t,q1,q2,p1", "line 1: it lacks column p2 for the nearest form t,q1,q2,p1,p2; give q1,q2,p1,p2,dq1,dq2,"),
        ("t,q1,q3,p1,p2,p3", "line 1: it lacks column q2 for the nearest form t,q1..q3,p1..p3; give"),
        ("t,q1,q2,p1,p2,v1,v2", "line 1: p and v together are no form; leave one of them out"),
    ],
)
def test_what_is_said_about_two_degrees_of_freedom(names, message, tmp_path):
    assert refused(write(tmp_path / "a.csv", f"{names}\n"), 4).startswith(message)


def test_what_is_no_file_of_observations(tmp_path):
    kinds = ".csv, .txt, .tsv, .dat, .asc, .xlsx, .xls, .json, .jsonl, .npz, .parquet or .mat"
    assert refused(tmp_path) == f"this is a folder; give a {kinds} file"
    assert refused(tmp_path / "a.csv") == f"there is no such file; give a {kinds} file of observations"
    assert refused(write(tmp_path / "a.doc", PLAIN)) == f"a file that ends in .doc is not read; save it as {kinds}"
    assert refused(write(tmp_path / "a", PLAIN)) == f"a file that ends in nothing is not read; save it as {kinds}"
    assert "too long" in refused(tmp_path / f"{'a' * 300}.csv")


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    def fail(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", fail)
    assert refused(write(tmp_path / "a.csv", PLAIN)) == "it cannot be read: Permission denied"


def test_a_name_with_line_ends_stays_one_line(tmp_path):
    with pytest.raises(ObservationError) as caught:
        read_observations(tmp_path / "a\n\u2028\udcff.csv", 2)
    assert str(caught.value).startswith(rf"{tmp_path}/a\n\u2028\udcff.csv: there is no such file")
    assert str(ObservationError("a\r\nb")) == r"a\r\nb"


FOUR = np.arange(4.0)
GOOD = {"q": FOUR, "p": FOUR, "dq": FOUR, "dp": FOUR}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, f"it holds no arrays; {FORMS}"),
        ({"t": FOUR, "E": FOUR}, f"unknown array 'E'; {FORMS}"),
        ({"arr_0": FOUR}, f"unknown array 'arr_0'; {FORMS}"),
        ({"q": FOUR, "p": FOUR, "dq": FOUR}, f"it lacks array dp for the nearest form q,p,dq,dp; {FORMS}"),
        ({"t": FOUR, "q": FOUR, "p": FOUR, "v": FOUR}, "p and v together are no form; leave one of them out"),
        ({"t": FOUR[:0], "q": FOUR[:0]}, "it names its columns and has no rows; add at least one observation"),
        (GOOD | {"p": FOUR[:3]}, "array p has shape (3,), but q has shape (4,); give each the same number of rows"),
        (GOOD | {"dp": np.ones((4, 2))}, "array dp has shape (4, 2), but q has shape (4,); give each the same number"),
        ({"t": FOUR[:3], "q": FOUR}, "array t has shape (3,), but q has shape (4,); give each the same number of rows"),
        (GOOD | {"q": np.float64(1)}, "array q has shape (); give one value for each row"),
        (GOOD | {"q": np.ones((4, 1, 1))}, "array q has shape (4, 1, 1); give one value for each row"),
        (GOOD | {"q": np.ones((4, 0))}, "array q has shape (4, 0); give one value for each row"),
        ({"t": FOUR[:, None], "q": FOUR}, "array t has shape (4, 1); give one value for each row"),
        (
            {"t": FOUR, "q1": FOUR, "q2": np.ones((4, 1, 1))},
            "array q2 has shape (4, 1, 1); give one value for each row",
        ),
        ({"t": FOUR, "q1": FOUR, "q2": FOUR[:3]}, "array q2 has 3 rows, but q1 4; give each the same number"),
        (GOOD | {"dq": FOUR * 1j}, "array dq: it holds complex128, not numbers; save it as float64"),
        (GOOD | {"dq": FOUR > 1}, "array dq: it holds bool, not numbers; save it as float64"),
        (GOOD | {"dq": np.array(["1"] * 4)}, "array dq: it holds <U1, not numbers; save it as float64"),
        (GOOD | {"dq": FOUR.astype("M8[s]")}, "array dq: it holds datetime64[s], not numbers; save it as float64"),
        (GOOD | {"dq": FOUR.astype([("a", "f8")])}, "array dq: it holds [('a', '<f8')], not numbers; save it as"),
        (GOOD | {"dq": np.array([0, 1, np.inf, 3])}, "array dq: index 2: inf is not finite; leave out the row"),
        (GOOD | {"dq": np.full(4, np.nan)}, "every row has an empty cell; fill some"),
        ({"t": FOUR, "q": np.array([[0, 1], [2, -np.inf]])}, "array q: index [1, 1]: -inf is not finite; leave out"),
        (GOOD | {"dq": np.array([1] * 3 + [np.longdouble("1e4000")])}, "array dq: index 3: inf is not finite"),
        (GOOD | {"dq": np.array([1, 2, 3, None])}, "array dq: it holds Python objects, which are not read; save plain"),
        ({"t": FOUR, "q": np.ones((4, 2))}, "the file has n=2 degrees of freedom, the model n=1; give observations of"),
        ({"t": FOUR[:2], "q": FOUR[:2], "v": FOUR[:2]}, "index 1: the trajectory ends after 2 instants; with t,q,v it"),
        ({"t": np.array([0, 1, 3, 2]), "q": FOUR}, "index 3: column t: 2.0 is not after 3.0 (index 2) in the trajec"),
        ({"t": FOUR, "q": FOUR, "trajectory": FOUR[:3]}, "array trajectory has shape (3,); give one label for each of"),
        ({"t": FOUR, "q": FOUR, "trajectory": FOUR[:, None]}, "array trajectory has shape (4, 1); give one label for"),
        ({"t": FOUR, "q": FOUR, "trajectory": np.array([1, np.nan, 1, 1])}, "array trajectory: index 1: 'nan' is no l"),
        ({"t": FOUR, "q": FOUR, "trajectory": np.array(list("aa a"))}, "array trajectory: index 2: '' is no label"),
        ({"t": FOUR, "q": FOUR, "trajectory": FOUR * 1j}, "array trajectory: it holds complex128; save text"),
        (
            {"t": FOUR, "q": FOUR, "trajectory": np.array(list("aaaa"), dtype=object)},
            "array trajectory: it holds Python objects, which are not read; save plain numbers, or text with dtype=str",
        ),
    ],
)
def test_what_is_said_about_arrays(arrays, message, tmp_path):
    assert refused(save(tmp_path / "a.npz", **arrays)).startswith(message)


class Payload:
    """A pickle that runs code when it is read: it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_an_archive_is_not_run(tmp_path):
    def content(mark):
        return np.array([Payload(mark)] * 4)

    bare = write(tmp_path / "bare.npz", pickle.dumps(Payload(tmp_path / "run")))
    proof = save(tmp_path / "proof.npz", q=content(tmp_path / "proof"))
    np.load(proof, allow_pickle=True)["q"]
    assert (tmp_path / "proof").exists(), "the payload works"

    assert "no readable .npz" in refused(bare)
    objects = save(tmp_path / "a.npz", t=FOUR, q=content(tmp_path / "run"))
    assert "holds Python objects" in refused(objects)
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        for name in ("t", "q"):
            archive.writestr(f"{name}.npy", pickle.dumps(Payload(tmp_path / "run")))
    assert "array t: it is no readable array" in refused(tmp_path / "b.npz")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("saver", SAVERS)
@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.9, 0.999])
def test_a_truncated_archive_is_refused(fraction, saver, tmp_path):
    path = save(tmp_path / "a.npz", saver, **GOOD)
    whole = path.read_bytes()
    write(path, whole[: int(fraction * len(whole))])
    assert refused(path).startswith("it is no readable .npz: damaged, truncated, or another kind of file; save it")


@pytest.mark.parametrize("content", [PLAIN, bytes(100), b"PK\x03\x04"], ids=["csv", "zeros", "start of a zip"])
def test_another_kind_of_file_is_no_archive(content, tmp_path):
    assert "it is no readable .npz" in refused(write(tmp_path / "a.npz", content))


def test_a_single_array_is_no_archive(tmp_path):
    np.save(buffer := io.BytesIO(), FOUR)
    assert "it is no readable .npz" in refused(write(tmp_path / "a.npz", buffer.getvalue()))


def test_an_array_twice_is_refused(tmp_path):
    np.save(buffer := io.BytesIO(), FOUR)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name in ("t.npy", "q.npy", "q"):
            archive.writestr(name, buffer.getvalue())
    assert refused(tmp_path / "a.npz") == "repeated array 'q'; keep one of each"


@pytest.mark.parametrize("saver", SAVERS)
def test_a_damaged_value_is_noticed(saver, tmp_path):
    path = save(tmp_path / "a.npz", saver, **GOOD)
    whole = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        last = archive.infolist()[-1]
    end = last.header_offset + 30 + len(last.filename) + last.compress_size
    whole[end - 3 if saver is np.savez else end - 12] ^= 0x10
    assert "array dp: it is no readable array" in refused(write(path, bytes(whole)))


LABELLED = b"""trajectory,t,q,p\r
a,0,1,-2\r
"b ",0,3e1,4\r
a,1.5,5,6\r
# x\r
b,1,2,3\r
\r
a,2,.5,6\r
b,20,2.,3\r
"""
FUZZED = {
    "derivatives": (".csv", table("q,p,dq,dp", RANDOM.normal(size=(4, 4))).encode()),
    "trajectories": (".csv", LABELLED),
    "stored": (".npz", np.savez),
    "compressed": (".npz", np.savez_compressed),
}


@pytest.mark.parametrize(("suffix", "good"), FUZZED.values(), ids=FUZZED)
def test_random_damage_is_read_or_refused(suffix, good, tmp_path):
    path = tmp_path / f"a{suffix}"
    if callable(good):
        good(path, t=FOUR, q=FOUR, trajectory=np.array(list("aaaa")))
        good = path.read_bytes()
    read_observations(write(path, good), 2)
    draw = random.Random(0)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(80):
        content = bytearray(good)
        for _ in range(draw.choice([1, 1, 2, 8])):
            content[draw.randrange(len(content))] = draw.randrange(256)
        write(path, bytes(content))
        try:
            observed = read_observations(path, 2)
        except ObservationError:
            refused(path)
            outcomes["refused"] += 1
            continue
        outcomes["read"] += 1
        parts = [observed] if isinstance(observed, Derivatives) else observed
        arrays = [value for part in parts for value in vars(part).values() if isinstance(value, np.ndarray)]
        assert arrays
        assert all(np.isfinite(array).all() for array in arrays)
    assert min(outcomes.values()) > 0, outcomes
