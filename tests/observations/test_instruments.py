"""Files as instruments and people write them: each is read to the known numbers, or refused with what to type."""

import datetime
import gzip
import json

import numpy as np
import pytest

from meta_hamiltonian.dynamics.domain import Domain
from meta_hamiltonian.observations import Derivatives, ObservationError, read

PENDULUM = Domain.box({"q": (-np.pi, np.pi), "p": (-2, 2)}, angles=["q"])
SPRING = Domain.box({"q": (-1, 1), "p": (-2, 2)})
DOUBLE = Domain.box({"q1": (-np.pi, np.pi), "q2": (-np.pi, np.pi), "p1": (-2, 2), "p2": (-2, 2)}, angles=["q1", "q2"])
PLANE = Domain.box([1.0, 1.0, 1.0, 1.0])

T = np.arange(24) / 8
Q = 0.5 * np.cos(3 * T)
V = -1.5 * np.sin(3 * T)
DEGREES = np.degrees(Q)


def rows(names, *columns, separator=",", decimal=".", end="\n"):
    """A table as text, with every digit."""
    lines = [separator.join(repr(float(x)).replace(".", decimal) for x in row) for row in zip(*columns, strict=True)]
    return end.join([names, *lines]) + end


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def taken(content, tmp_path, name="a.csv", domain=PENDULUM, **options):
    return read([write(tmp_path / name, content)], domain, **options)


def one(reading):
    (trajectory,) = reading.observations
    return trajectory


def close(array, expected):
    np.testing.assert_allclose(np.squeeze(array), expected, rtol=1e-9, atol=1e-9)


def refused(content, tmp_path, name="a.csv", domain=PENDULUM, **options):
    path = write(tmp_path / name, content)
    with pytest.raises(ObservationError) as caught:
        read([path], domain, **options)
    message = str(caught.value)
    assert message.isprintable(), "one line"
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


MS = 1000 * T
PLAIN = {
    "units in brackets": rows('"Time (s)","Angle (deg)"', T, DEGREES),
    "units in square brackets": rows("time [ms],angle [deg]", MS, DEGREES),
    "units after a slash": rows("t / s;θ / °", T, DEGREES, separator=";"),
    "units after in": rows("Zeit in ms;Winkel in °", MS, DEGREES, separator=";"),
    "units after an underscore": rows("time_ms,theta_deg", MS, DEGREES),
    "names with units": rows("millis\tphi_rad", MS, Q, separator="\t"),
    "minutes, turns": rows("t (min),q (turns)", T / 60, Q / (2 * np.pi)),
    "microseconds, milliradians": rows("t (µs),q (mrad)", 1e6 * T, 1e3 * Q),
    "Greek mu, gradians": rows("t (μs),alpha (gon)", 1e6 * T, Q * 200 / np.pi),
    "hours, revolutions": rows("t [h],q [rev]", T / 3600, Q / (2 * np.pi)),
    "semicolons, decimal commas": rows("t;q", T, Q, separator=";", decimal=","),
    "tabs, decimal commas": rows("t\tq", T, Q, separator="\t", decimal=","),
    "blanks, decimal commas": rows("t   q", T, Q, separator="   ", decimal=","),
    "blanks": rows("  time     theta", T, Q, separator="    "),
    "blanks, units": rows("Time (s)   Angle (deg)", T, DEGREES, separator=" "),
    "quoted decimal commas": '"t","q"\n'
    + "".join(f'"{t};{q}"\n'.replace(".", ",").replace(";", '","') for t, q in zip(T, Q, strict=True)),
    "a row of units": "t,theta\ns,deg\n" + rows("", T, DEGREES).lstrip(),
    "a row of units in brackets": "Time;Angle\n[ms];[°]\n" + rows("", MS, DEGREES, separator=";").lstrip(),
    "what stands above": "Device: X12\nDate: 2024-05-01 12:00\nMass,0.5\n\n" + rows("t,theta", T, Q),
    "comments": "# recorded\n% by\n// me\n" + rows("t,theta", T, Q),
    "names in a comment": rows("# t theta", T, Q, separator=" "),
    "comments with semicolons": "; remark, 5\n" + rows("t,theta", T, Q),
    "BOM": "\ufeff" + rows("t,θ", T, Q),
    "UTF-16": rows("t\tθ (°)", T, DEGREES, separator="\t").encode("utf-16"),
    "Western Windows": rows("t (µs);Winkel (°)", 1e6 * T, DEGREES, separator=";", decimal=",").encode("cp1252"),
    "a minus sign of print": rows("t,q", T, Q).replace("-", "−"),
    "CR": rows("t,q", T, Q, end="\r"),
    "CRLF": rows("t,q", T, Q, end="\r\n"),
    "an index": rows("Unnamed: 0,t,q,frame,temperature", T, T, Q, T, T),
    "an index without a name": rows(",t,q", T, T, Q),
    "trailing commas": rows("t,q", T, Q).replace("\n", ",\n"),
    "a comment column": rows("t,q", T, Q).replace("\n", ",fine\n").replace("t,q,fine", "t,q,comment"),
    "clock times": "time,q\n"
    + "".join(
        f"{datetime.datetime(2024, 5, 1, 23, 59, 58) + datetime.timedelta(seconds=s):%H:%M:%S.%f},{q!r}\n"
        for s, q in zip(T.tolist(), Q.tolist(), strict=True)
    ),
    "dates": "timestamp,q\n"
    + "".join(
        f"{datetime.datetime(2024, 5, 1, 12) + datetime.timedelta(seconds=s)},{q!r}\n"
        for s, q in zip(T.tolist(), Q.tolist(), strict=True)
    ),
    "dates with a zone": "time,q\n"
    + "".join(
        f"{(datetime.datetime(2024, 5, 1, 12) + datetime.timedelta(seconds=s)).isoformat()}Z,{q!r}\n"
        for s, q in zip(T.tolist(), Q.tolist(), strict=True)
    ),
    "milliseconds since 1970": rows("time (ms),q", 1.7e12 + MS, Q),
    "names again": rows("t,q", T[:9], Q[:9]) + rows("t,q", T[9:], Q[9:]),
}  # fmt: skip


@pytest.mark.parametrize("content", PLAIN.values(), ids=PLAIN)
def test_angles_of_a_pendulum(content, tmp_path):
    reading = taken(content, tmp_path, "a.txt")
    trajectory = one(reading)
    close(trajectory.t, T)
    close(trajectory.q, Q)
    assert trajectory.v is None
    assert reading.notes
    assert all(note.isprintable() for note in reading.notes)


@pytest.mark.parametrize(
    "names",
    [
        "Time,Angle,Omega",
        "t,θ,ω",
        "time,theta,theta_dot",
        "elapsed,phi,dphi/dt",
        "Zeit,Winkel,Winkelgeschwindigkeit",
        "t,q,dq/dt",
        "t,q1,v1",
        "seconds,angle (rad),angular velocity (rad/s)",
        "t,q,qdot",
        "time_s,theta_rad,omega_rad_s",
        "t,θ,θ̇",
        "t / s,θ / rad,ω / rad s⁻¹",
    ],
)
def test_names_of_angles_and_velocities(names, tmp_path):
    trajectory = one(taken(rows(names, T, Q, V), tmp_path))
    close(trajectory.q, Q)
    close(trajectory.v, V)


def test_names_of_derivatives(tmp_path):
    for names in ("q,p,dqdt,dpdt", "theta,momentum,dtheta/dt,dp/dt", "q,p,qdot,pdot"):
        observed = taken(rows(names, Q, V, V, -Q), tmp_path).observations
        assert isinstance(observed, Derivatives)
        close(observed.x, np.stack([Q, V], -1))
        close(observed.dxdt, np.stack([V, -Q], -1))


@pytest.mark.parametrize("unit", ["deg/s", "°/s", "dps", "deg s-1"])
def test_velocities_are_converted(unit, tmp_path):
    close(one(taken(rows(f"t (s),q (deg),v ({unit})", T, DEGREES, np.degrees(V)), tmp_path)).v, V)
    close(one(taken(rows("t,q (rad),v (rpm)", T, Q, V * 30 / np.pi), tmp_path)).v, V)


def test_lengths(tmp_path):
    metres = Domain.box({"q": (-1, 1), "p": (-1, 1)}, units={"q": "m"}, time_unit="s")
    for domain in (SPRING, metres):
        trajectory = one(
            taken(rows("t (s);x (cm);v (mm/s)", T, 100 * Q, 1000 * V, separator=";"), tmp_path, domain=domain)
        )
        close(trajectory.q, Q)
        close(trajectory.v, V)
    close(one(taken(rows("t,displacement (in)", T, Q), tmp_path, domain=SPRING)).q, 0.0254 * Q)
    reading = taken(rows("t,x (px)", T, Q), tmp_path, domain=SPRING)
    close(one(reading).q, Q)
    assert "no physical unit" in " ".join(reading.notes)
    assert "pixels" in refused(rows("t,x (px)", T, Q), tmp_path, domain=metres)
    close(one(taken(rows("t,x (px)", T, 1000 * Q), tmp_path, domain=metres, units={"q": "1 mm"})).q, Q)


def test_several_degrees_of_freedom(tmp_path):
    for names in (
        "t,theta1,theta2,omega1,omega2",
        "t,θ₁,θ₂,ω₁,ω₂",
        "time,angle 1 (rad),angle 2 (rad),w,omega_1,omega_2",
    ):
        columns = [T, Q, 2 * Q, V, 2 * V]
        columns = [*columns[:3], T, *columns[3:]] if ",w," in names else columns
        trajectory = one(taken(rows(names, *columns), tmp_path, domain=DOUBLE))
        close(trajectory.q, np.stack([Q, 2 * Q], -1))
        close(trajectory.v, np.stack([V, 2 * V], -1))
    for names, quantity in (
        ("t,theta1,theta2,p_theta1,p_theta2", "p"),
        ("t,φ₁,φ₂,p_φ₁,p_φ₂", "p"),
        ("t,theta1,theta2,v_theta1,v_theta2", "v"),
    ):
        trajectory = one(taken(rows(names, T, Q, 2 * Q, V, 2 * V), tmp_path, domain=DOUBLE))
        close(getattr(trajectory, quantity), np.stack([V, 2 * V], -1))
    trajectory = one(taken(rows("t,x,y,vx,vy", T, Q, 2 * Q, V, 2 * V), tmp_path, domain=PLANE))
    close(trajectory.q, np.stack([Q, 2 * Q], -1))
    close(trajectory.v, np.stack([V, 2 * V], -1))


def test_the_names_of_the_model_are_names_of_columns(tmp_path):
    own = Domain.box({"lean": (-1, 1), "p_lean": (-1, 1)})
    trajectory = one(taken(rows("t,lean,p_lean", T, Q, V), tmp_path, domain=own))
    close(trajectory.q, Q)
    close(trajectory.p, V)


def test_columns_and_units_are_said(tmp_path):
    content = rows("a,b,c", MS, DEGREES, V)
    options = {"columns": {"t": "a", "q": "b"}, "units": {"t": "ms", "b": "deg"}}
    trajectory = one(taken(content, tmp_path, **options))
    close(trajectory.t, T)
    close(trajectory.q, Q)
    bare = content.split("\n", 1)[1]
    trajectory = one(taken(bare, tmp_path, columns={"t": "1", "q": "2"}, units={"t": "ms", "q": "deg"}))
    close(trajectory.q, Q)
    close(one(taken(rows("t (s),angle_left,angle_right", T, Q, V), tmp_path, columns={"q": "angle_left"})).q, Q)
    close(one(taken(rows("t,theta (rad)", T, DEGREES), tmp_path, units={"q": "deg"})).q, Q)
    frames = one(taken(rows("frame,theta", 30 * T, Q), tmp_path, columns={"t": "frame"}, units={"t": "1/30 s"}))
    close(frames.t, T)


# Other kinds of files

RECORDS = [{"time": t, "Angle (deg)": a} for t, a in zip(T.tolist(), DEGREES.tolist(), strict=True)]


@pytest.mark.parametrize(
    "found",
    [
        RECORDS,
        {"data": RECORDS},
        {"time": T.tolist(), "theta": Q.tolist(), "device": "X"},
        {"data": {"time": T.tolist(), "theta": Q.tolist()}, "device": {"name": "X"}},
    ],
)
def test_json(found, tmp_path):
    trajectory = one(taken(json.dumps(found), tmp_path, "a.json"))
    close(trajectory.t, T)
    close(trajectory.q, Q)


def test_json_lines(tmp_path):
    close(one(taken("\n".join(map(json.dumps, RECORDS)), tmp_path, "a.JSONL")).q, Q)


def test_spreadsheets(tmp_path):
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["Notes"])
    table = book.create_sheet("Run 1")
    table.append(["Pendulum, 2024"])
    table.append([])
    table.append([None, "Time (s)", "Angle (deg)", None, "remark"])
    for t, a in zip(T.tolist(), DEGREES.tolist(), strict=True):
        table.append([None, t, a, None, "x"])
    book.save(tmp_path / "a.XLSX")
    reading = read([tmp_path / "a.XLSX"], PENDULUM)
    close(one(reading).t, T)
    close(one(reading).q, Q)
    assert "'Run 1'" in " ".join(reading.notes)
    assert "readable Excel" in refused(b"PK no book", tmp_path, "b.xlsx")


def test_parquet(tmp_path):
    import pandas

    times = pandas.Timestamp("2024-05-01 12:00") + pandas.to_timedelta(T, unit="s")
    pandas.DataFrame({"time": times, "theta_deg": DEGREES}).to_parquet(tmp_path / "a.parquet")
    trajectory = one(read([tmp_path / "a.parquet"], PENDULUM))
    close(trajectory.t, T)
    close(trajectory.q, Q)
    assert "readable Parquet" in refused(b"PAR1", tmp_path, "b.parquet")


def test_matlab(tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "a.mat", {"time": T, "theta": Q[:, None], "L": 0.5, "name": "x"})
    trajectory = one(read([tmp_path / "a.mat"], PENDULUM))
    close(trajectory.t, T)
    close(trajectory.q, Q)
    assert "-v7" in refused(b"MATLAB 7.3 MAT-file" + bytes(600), tmp_path, "b.mat")
    assert "readable MATLAB" in refused(b"MATLAB 5.0", tmp_path, "c.mat")


def test_gzip_and_archives(tmp_path):
    close(one(taken(gzip.compress(rows("t,q", T, Q).encode()), tmp_path, "a.csv.gz")).q, Q)
    np.savez(tmp_path / "a.npz", time=T, theta=Q, mass=0.5)
    close(one(read([tmp_path / "a.npz"], PENDULUM)).q, Q)
    assert "no readable .gz" in refused(b"\x1f\x8bno", tmp_path, "b.csv.gz")


# Positions around a pivot

X, Y = 0.4 * np.sin(Q), -0.4 * np.cos(Q)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (X, Y, "the origin"),
        (X + 3, Y - 7, "centre of the circle"),
        (X, -Y, "y grows downwards"),
        (640 + 1000 * X, 500 - 1000 * Y, "y grows downwards"),
    ],
    ids=["the pivot is the origin", "elsewhere", "y downwards", "pixels of an image"],
)
def test_positions_around_a_pivot(x, y, words, tmp_path):
    content = "mass A\t\t\n" + rows("t\tx\ty", T, x, y, separator="\t")
    reading = taken(content, tmp_path, "track.txt")
    np.testing.assert_allclose(one(reading).q[:, 0], Q, atol=1e-6)
    assert words in " ".join(reading.notes)


def test_positions_with_noise_and_gaps(tmp_path):
    noise = 1e-3 * np.random.default_rng(0).standard_normal((2, len(T)))
    text = rows("t,x,y,r,v", T, X + 2 + noise[0], Y + noise[1], np.abs(V), np.abs(V))
    trajectory = one(taken(text + "3.0,,,,\n", tmp_path))
    np.testing.assert_allclose(trajectory.q[:, 0], Q, atol=0.03)
    assert trajectory.v is None, "the speed of a tracker has no sign"


def test_an_angle_is_preferred_to_positions(tmp_path):
    close(one(taken(rows("t,x,y,theta", T, X + 9, Y, Q), tmp_path)).q, Q)
    from_the_x_axis = np.arctan2(Y, X)
    np.testing.assert_allclose(one(taken(rows("t,x,y,θ", T, X, Y, from_the_x_axis), tmp_path)).q[:, 0], Q, atol=1e-9)


def test_positions_that_lead_to_no_pivot(tmp_path):
    assert "--columns q=NAME" in refused(rows("t,x,y", T, T, T**2 - T), tmp_path)
    small = 0.02 * Q
    noise = 1e-3 * np.random.default_rng(0).standard_normal((2, len(T)))
    short = rows("t,x,y", T, np.sin(small) + 2 + noise[0], -np.cos(small) + noise[1])
    assert "the arc is too short" in refused(short, tmp_path)
    assert "beside the pivot" in refused(rows("t,x,y", T, Y, X), tmp_path)
    assert "nothing moves" in refused(rows("t,x,y", T, 0 * T, 0 * T), tmp_path)
    assert "named as lengths" in refused(rows("t,x", T, X), tmp_path)


# Gyroscopes

LONG = np.arange(2000) / 100
SWING = 0.6 * np.cos(3 * LONG)
RATE = -1.8 * np.sin(3 * LONG)
PHONE = '"Time (s)","Gyroscope x (rad/s)","Gyroscope y (rad/s)","Gyroscope z (rad/s)","Absolute (rad/s)"'


@pytest.mark.parametrize("offset", [0, 0.05])
def test_a_gyroscope_gives_the_angle_up_to_a_constant(offset, tmp_path):
    noise = 0.01 * np.random.default_rng(0).standard_normal((2, len(LONG)))
    content = rows(PHONE, LONG, noise[0], RATE + offset, noise[1], np.abs(RATE))
    reading = taken(content, tmp_path)
    trajectory = one(reading)
    assert trajectory.integrated
    np.testing.assert_allclose(trajectory.q[:, 0], SWING, atol=0.01)
    np.testing.assert_allclose(trajectory.v[:, 0], RATE, atol=1e-3)
    assert "integral" in " ".join(reading.notes)
    assert ("offset" in " ".join(reading.notes)) == bool(offset)


def test_a_gyroscope_that_turns_around_several_axes(tmp_path):
    content = rows(PHONE, LONG, RATE, RATE, 0 * RATE, np.abs(RATE))
    assert "--columns v=2 or --columns v=3" in refused(content, tmp_path)
    np.testing.assert_allclose(one(taken(content, tmp_path, columns={"v": "3"})).v[:, 0], RATE, atol=1e-9)


def test_velocities_alone(tmp_path):
    trajectory = one(taken(rows("t,omega (deg/s)", LONG, np.degrees(RATE)), tmp_path))
    assert trajectory.integrated
    np.testing.assert_allclose(trajectory.q[:, 0], SWING, atol=1e-3)


def test_accelerations_are_refused(tmp_path):
    content = rows("Time (s),Acceleration x (m/s^2),Acceleration y (m/s^2),Absolute acceleration (m/s^2)", T, T, T, T)
    assert "accelerations" in refused(content, tmp_path)


# Gaps, order, several releases


@pytest.mark.parametrize("gap", ["", "nan", "-", "NA", "null", "N/A", "NaN"])
def test_gaps(gap, tmp_path):
    content = rows("t,q", T, Q).splitlines()
    content[4] = f"{T[3]},{gap}"
    reading = taken("\n".join(content), tmp_path)
    close(one(reading).t, np.delete(T, 3))
    close(one(reading).q, np.delete(Q, 3))
    assert "1 of 24 rows has an empty cell" in " ".join(reading.notes)


def test_rows_that_stand_twice_are_merged(tmp_path):
    lines = rows("t,q", T, Q).splitlines()
    reading = taken("\n".join([*lines[:5], lines[4], *lines[5:]]), tmp_path)
    close(one(reading).t, T)
    assert "merged" in " ".join(reading.notes)
    other = "\n".join([*lines[:5], f"{T[3]},0.1", *lines[5:]])
    message = refused(other, tmp_path)
    assert message.startswith("line 6: ")
    assert "line 5 too, with other values" in message


def test_a_time_that_starts_again(tmp_path):
    reading = taken(rows("t,q", [*T, *T[1:]], [*Q, *V[1:]]), tmp_path)
    first, second = reading.observations
    close(first.q, Q)
    close(second.q, V[1:])
    assert (first.name, second.name) == ("part 1", "part 2")
    assert "2 trajectories one after another" in " ".join(reading.notes)
    shuffled = np.random.default_rng(0).permutation(len(T))
    assert "sort by time" in refused(rows("t,q", T[shuffled], Q[shuffled]), tmp_path)


def test_several_files_and_folders(tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    for name, scale in (("run10.csv", 3), ("run2.csv", 2), ("run1.txt", 1)):
        write(folder / name, rows("t,q (deg)", T, scale * DEGREES))
    write(folder / "photo.jpg", b"x")
    write(folder / ".hidden.csv", b"x")
    reading = read([folder], PENDULUM)
    assert [trajectory.name for trajectory in reading.observations] == ["run1", "run2", "run10"]
    for scale, trajectory in enumerate(reading.observations, 1):
        close(trajectory.q, scale * Q)
    assert "photo.jpg" in " ".join(reading.notes)
    assert sum("is q" in note for note in reading.notes) == 1, "what holds for all is said once"
    write(folder / "run3.csv", rows("q,p,dq,dp", Q, Q, Q, Q))
    with pytest.raises(ObservationError, match=r"run3.csv: it holds derivatives"):
        read([folder], PENDULUM)
    both = read([folder / "run3.csv", folder / "run3.csv"], PENDULUM).observations
    assert both.x.shape == (2 * len(Q), 2)
    with pytest.raises(ObservationError, match="the folder holds no"):
        read([tmp_path], PENDULUM)
    with pytest.raises(ObservationError, match="no file is given"):
        read([], PENDULUM)


def test_windows_of_time(tmp_path):
    content = rows("t (ms),q,u", MS, Q, V)
    trajectory = one(taken(content, tmp_path, from_time=0.5, to_time=1.5))
    inside = (T >= 0.5) & (T <= 1.5)
    close(trajectory.t, T[inside])
    close(trajectory.inputs.t, T)
    message = refused(content, tmp_path, from_time=5.0)
    assert "from 5" in message
    assert "the recording goes from 0 to 2.875" in message


# Inputs


def test_inputs(tmp_path):
    for names in ("t,q,u", "t,q,torque (N m)", "t,theta,voltage"):
        inputs = one(taken(rows(names, T, Q, V), tmp_path)).inputs
        close(inputs.t, T)
        close(inputs.u, V)
    inputs = one(taken(rows("t,q,u1,u2", T, Q, V, Q), tmp_path)).inputs
    close(inputs.u, np.stack([V, Q], -1))
    assert "--columns u=torque" in refused(rows("t,q,torque,voltage", T, Q, V, V), tmp_path)


def test_inputs_before_and_after_the_states(tmp_path):
    lines = ["t,q,u", "-1,,5", *rows("", T, Q, V).splitlines()[1:], "10,,7", "11,nan,8"]
    lines[6] = f"{T[4]},,"
    trajectory = one(taken("\n".join(lines), tmp_path))
    close(trajectory.t, np.delete(T, 4))
    close(trajectory.inputs.t, [-1, *np.delete(T, 4), 10, 11])
    close(trajectory.inputs.u, [5, *np.delete(V, 4), 7, 8])


# Angles


def test_angles_within_a_turn_are_made_continuous(tmp_path):
    angle = 3 + T
    wrapped = np.angle(np.exp(1j * angle))
    reading = taken(rows("t,theta (deg)", T, np.degrees(wrapped)), tmp_path)
    q = one(reading).q[:, 0]
    close(np.diff(q), np.diff(angle))
    assert "continuous" in " ".join(reading.notes)
    hanging = taken(rows("t,theta (deg)", T, np.degrees(Q) % 360), tmp_path)
    close(one(hanging).q, Q)
    turning = 2 + 5 * T
    close(one(taken(rows("t,theta", T, turning), tmp_path)).q, turning)
    close(one(taken(rows("t,q", T, 6 * np.sign(Q)), tmp_path, domain=SPRING)).q, 6 * np.sign(Q))


def test_degrees_that_nobody_names_are_refused(tmp_path):
    content = rows("t,theta", LONG, np.degrees(SWING))
    assert "--units q=deg" in refused(content, tmp_path)
    np.testing.assert_allclose(one(taken(content, tmp_path, units={"q": "deg"})).q[:, 0], SWING, atol=1e-9)


def test_velocities_that_do_not_belong_to_the_positions(tmp_path):
    assert "degrees" in refused(rows("t,theta,omega", LONG, SWING, np.degrees(RATE)), tmp_path)
    assert "speed without a direction" in refused(rows("t,theta,v", LONG, SWING, np.abs(RATE)), tmp_path)


# What is refused, and what to type

REFUSED = {
    "no names": (rows("", T, Q).lstrip(), "--columns t=1,q=2"),
    "two angles": (rows("t,angle,theta", T, Q, V), "--columns q=angle or --columns q=theta"),
    "left and right": (rows("t,angle_left,angle_right", T, Q, V), "'angle_left', 'angle_right'"),
    "two times": (rows("time,timestamp,q", T, T, Q), "--columns t=time"),
    "a name with blanks": (rows("t,theta (rad),angle (rad)", T, Q, V), "--columns 'q=theta (rad)'"),
    "a unit that is not known": (rows("t,theta (blorp)", T, Q), "unit 'blorp' of q is not known"),
    "a unit of something else": (rows("t (kg),theta", T, Q), "the unit 'kg' of t is none of s"),
    "lengths for an angle": (rows("t,theta (cm)", T, Q), "'cm'"),
    "German degrees": (rows("t,Winkel (Grad)", T, Q), "--units q=deg"),
    "hertz": (rows("t,q,v (Hz)", T, Q, V), "--units v="),
    "frames alone": (rows("frame,theta", T, Q), "--columns t=frame --units"),
    "a velocity without a unit": (rows("t,q (deg),v", T, DEGREES, V), "--units v="),
    "an angle without a unit": (rows("t,q,v (deg/s)", T, Q, V), "--units q="),
    "times that are no seconds": (rows("t,q", 1.7e12 + MS, Q), "--units t=ms"),
    "no number": (rows("t,q", T, Q) + "4,abc\n", "line 26: column q: 'abc' is not a number"),
    "two points": (rows("t,q", T, Q) + "4,1.2.3\n", "line 26: column q: '1.2.3' is not a number"),
    "no times": ("t,q\nnan,1\nnan,2\n", "no row has a time"),
    "inputs beside derivatives": (rows("q,p,dq,dp,u", Q, Q, Q, Q, Q), "not beside derivatives"),
    "infinite": (rows("t,q", T, Q) + "4,inf\n", "line 26: column q: inf is not a finite number"),
    "at rest": (rows("t,q", T, 0 * T + 0.3), "nothing moves"),
    "American dates": (rows("t,q", T, Q) + "05/01/2024,1\n", "is not a number"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(content, words, tmp_path):
    assert words in refused(content, tmp_path)


def test_wishes_that_cannot_be_met(tmp_path):
    content = rows("t,q", T, Q)
    assert "no such column" in refused(content, tmp_path, columns={"q": "angle"})
    assert "cannot both be 'q'" in refused(content, tmp_path, columns={"q": "q", "t": "q"})
    assert "--columns q=x or --columns q=y" in refused(rows("t,x,y", T, X, Y), tmp_path, domain=SPRING)
    assert "no quantity" in refused(content, tmp_path, columns={"angle": "q"})
    assert "--units w=deg: nothing is read" in refused(content, tmp_path, units={"w": "deg"})
    assert "no readable JSON" in refused("{", tmp_path, "a.json")
    assert "no table" in refused("[1, 2]", tmp_path, "a.json")


def test_a_long_recording_is_read(tmp_path):
    t = np.arange(100_000) / 1000
    path = write(tmp_path / "a.csv", rows("t,q,v", t, np.cos(t), -np.sin(t)))
    assert len(one(read([path], PENDULUM)).t) == 100_000
