"""Folders and tables of members: what is read, and what is refused in which words."""

from pathlib import Path

import numpy as np
import pytest

from meta_hamiltonian.observations import ObservationError
from meta_hamiltonian.observations.members import read_members
from meta_hamiltonian.observations.read import read
from meta_hamiltonian.observations.shape import Asked

T = np.arange(12) / 10


def write(path: Path, header: str, *columns, separator: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [separator.join(f"{value:.6g}" for value in row) for row in zip(*columns, strict=True)]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def swing(k: int = 0, scale: float = 1.0):
    return scale * np.cos(T * (1 + k / 5)), -scale * np.sin(T * (1 + k / 5))


@pytest.fixture
def folder(tmp_path):
    for k in range(3):
        write(tmp_path / "family" / f"run{k + 1}.csv", "t (s),q (rad),p", T, *swing(k))
    return tmp_path / "family"


def test_a_folder_with_a_file_a_member(folder):
    (folder / "members.csv").write_text("member,l\nrun1,1\nrun3,2\n")
    found = read_members(folder, None, Asked())
    assert [one.name for one in found.members] == ["run1", "run2", "run3"]
    assert [dict(one.known) for one in found.members] == [{"l": "1"}, {}, {"l": "2"}]
    assert not found.refused
    position, momentum = found.domain.coordinates
    assert (position.kind, position.unit, momentum.kind, found.domain.time_unit) == ("angle", "rad", "length", "s")


def test_logarithms_of_populations_are_taken_where_they_are_wished_for(tmp_path):
    prey, predators = np.exp(swing()[0]), np.exp(swing()[1])
    asked = Asked(columns={"q": "ln prey", "p": "log(predators)"})
    write(tmp_path / "lakes" / "a.csv", "t (d),Prey (1/m²),predators", T, prey, predators)
    found = read_members(tmp_path / "lakes", None, asked)
    assert [one.kind for one in found.domain.coordinates] == ["logarithm", "logarithm"]
    assert [one.unit for one in found.domain.coordinates] == ["", ""]
    (one,) = found.members[0].observations
    assert np.allclose(one.q[:, 0], swing()[0], atol=1e-5)
    assert np.allclose(one.p[:, 0], swing()[1], atol=1e-5)
    assert any("q is the logarithm of column 'Prey (1/m²)'" in note for note in found.notes)
    write(tmp_path / "lakes" / "b.csv", "t (d),Prey (1/m²),predators", T, prey, predators - predators.min())
    refused = read_members(tmp_path / "lakes", None, asked).refused
    assert "line 13: column 'predators': 0 has no logarithm" in refused["b"]


def test_logarithms_are_known_by_their_names(tmp_path):
    write(tmp_path / "lakes" / "a.csv", "t,ln q,log(p)", T, *swing())
    found = read_members(tmp_path / "lakes", None, Asked())
    assert [one.kind for one in found.domain.coordinates] == ["logarithm", "logarithm"]
    (one,) = found.members[0].observations
    assert np.allclose(one.q[:, 0], swing()[0], atol=1e-5)
    write(tmp_path / "named" / "b.csv", "t,ln prey,ln_predators", T, *swing())
    named = read_members(tmp_path / "named", None, Asked(columns={"q": "ln prey", "p": "ln_predators"}))
    assert [one.kind for one in named.domain.coordinates] == ["logarithm", "logarithm"]
    assert np.allclose(named.members[0].observations[0].p[:, 0], swing()[1], atol=1e-5)


def test_units_of_some_members_are_converted(folder):
    write(folder / "run4.csv", "t (ms),q (deg),p (1)", 1000 * T, 180 / np.pi * swing()[0], swing()[1])
    found = read_members(folder, None, Asked())
    (last,) = found.members[-1].observations
    assert np.allclose(last.t, T, atol=1e-6)
    assert np.allclose(last.q[:, 0], swing()[0], atol=1e-5)
    assert any("deg converted to rad" in note for note in found.notes)


def test_a_folder_a_member_holds_several_trajectories(folder):
    for k in range(2):
        write(folder / "run9" / f"part{k}.csv", "t (s),q (rad),p", T, *swing(k))
    last = read_members(folder, None, Asked()).members[-1]
    assert last.name == "run9"
    assert len(last.observations) == 2


def test_one_table_with_a_column_of_members(tmp_path):
    rows = [
        f"{name},{t:.6g},{q:.6g},{p:.6g}"
        for name, k in (("b", 0), ("a", 1))
        for t, q, p in zip(T, *swing(k), strict=True)
    ]
    path = tmp_path / "all.csv"
    path.write_text("\n".join(["apparatus,t,theta,p", *rows]))
    found = read_members(path, "apparatus", Asked())
    assert [one.name for one in found.members] == ["b", "a"]
    assert np.allclose(found.members[1].observations[0].q[:, 0], swing(1)[0], atol=1e-5)
    assert found.domain.coordinates[0].kind == "angle"
    with pytest.raises(ObservationError, match=r"which column names them: data\.member=COLUMN"):
        read_members(path, None, Asked())
    with pytest.raises(ObservationError, match="there is no such column; choose from"):
        read_members(path, "pendulum", Asked())


def test_several_coordinates_and_what_is_said_of_them(tmp_path):
    for k in range(2):
        q, p = swing(k)
        write(tmp_path / f"{k}.csv", "t,q1,q2,p1,p2", T, q, p, p, -q)
    assert read_members(tmp_path, None, Asked()).domain.degrees_of_freedom == 2
    found = read_members(tmp_path, None, Asked(angles=["q2"]))
    assert [c.kind for c in found.domain.coordinates] == ["length", "angle", "length", "length"]
    with pytest.raises(ObservationError, match=r"q3 is no position; choose from q1, q2"):
        read_members(tmp_path, None, Asked(angles=["q3"]))


@pytest.mark.parametrize(
    ("header", "names", "units"),
    [
        ("t,r,theta (rad),p_r,p_theta", "r theta p_r p_theta", ["", "rad", "", ""]),
        ("t (s),x (m),theta (deg),v (m/s),omega (deg/s)", "x theta p_x p_theta", ["m", "rad", "m/s", "rad/s"]),
        ("t,r (cm),θ (rad),dr/dt (cm/s),dθ/dt (rad/s)", "r θ p_r p_θ", ["m", "rad", "", ""]),
        ("t,Radius,phi,vRadius,phidot", "Radius phi p_Radius p_phi", ["", "rad", "", ""]),
        ("t,x1,x2,p1,p2", "x1 x2 p_x1 p_x2", [""] * 4),
        ("t,x_1,y_1,vx1,vy1", "x_1 y_1 p_x_1 p_y_1", [""] * 4),
        ("t,q1,q2,p1,p2", "q1 q2 p1 p2", [""] * 4),
        ("t,x,y,vx,vy", "q1 q2 p1 p2", [""] * 4),
    ],
)
def test_coordinates_keep_names_after_which_momenta_or_velocities_are_named(header, names, units, tmp_path):
    angle, rate = swing(1, 180 / np.pi if "deg" in header else 1.0)
    r, v = swing()
    velocities = "p_r" not in header and "p1" not in header
    columns = [T, 2 + r, angle, v, (1 + 1 / 5) * rate if velocities else rate]
    for k in range(2):
        write(tmp_path / f"{k}.csv", header, *columns)
    domain = read_members(tmp_path, None, Asked()).domain
    assert list(domain.names) == names.split()
    assert [c.kind for c in domain.coordinates[:2]] == ["angle" if unit == "rad" else "length" for unit in units[:2]]
    assert [c.unit for c in domain.coordinates] == units
    found, notes = read([tmp_path / "0.csv"], domain).observations[0], read([tmp_path / "0.csv"], domain).notes
    assert np.allclose(found.q[:, 1], swing(1)[0], atol=1e-4)
    assert (found.v is not None) == velocities
    assert not any("not used" in note for note in notes)


def test_numbers_tell_which_velocity_belongs_to_which_position(tmp_path):
    write(tmp_path / "a.csv", "t,v1,x2,v2,x1", T, swing()[1], *swing(1)[:1], 1.2 * swing(1)[1], swing()[0])
    found = read_members(tmp_path, None, Asked())
    assert found.domain.names == ("x1", "x2", "p_x1", "p_x2")
    (one,) = found.members[0].observations
    assert np.allclose(one.q, np.stack([swing()[0], swing(1)[0]], -1), atol=1e-5)
    assert np.allclose(one.v, np.stack([swing()[1], 1.2 * swing(1)[1]], -1), atol=1e-5)


@pytest.mark.parametrize("header", ["t,x1,v1", "t,x2 (m),v2 (m/s)"])
def test_one_of_several_bodies_may_be_recorded_alone(header, tmp_path):
    x, v = swing()
    write(tmp_path / "a.csv", header, T, x, v)
    found = read_members(tmp_path, None, Asked())
    assert found.domain.names[0] == header[2:4]
    (one,) = found.members[0].observations
    assert np.allclose(one.q[:, 0], x, atol=1e-5)
    assert np.allclose(one.v[:, 0], v, atol=1e-5)


def test_columns_may_stand_in_another_order_in_each_file(tmp_path):
    (angle, of_angle), (r, of_r) = swing(), swing(2)
    write(tmp_path / "a.csv", "t,r,theta,p_r,p_theta", T, r, angle, of_r, of_angle)
    write(tmp_path / "b.csv", "t,p_theta,theta,p_r,r", T, of_angle, angle, of_r, r)
    write(tmp_path / "c.csv", "theta,r,p_r,p_theta,t", angle, r, of_r, of_angle, T)
    found = read_members(tmp_path, None, Asked())
    assert not found.refused
    assert found.domain.names == ("r", "theta", "p_r", "p_theta")
    assert [c.kind for c in found.domain.coordinates] == ["length", "angle", "length", "length"]
    for member in found.members:
        (one,) = member.observations
        assert np.allclose(one.q, np.stack([r, angle], -1), atol=1e-5)
        assert np.allclose(one.p, np.stack([of_r, of_angle], -1), atol=1e-5)


@pytest.mark.parametrize(
    "header",
    ["t,q,v,h,ph", "t,q,p,x1,x2", "t,q,p,s,note", "t,theta,omega,L,dL", "t,theta,omega,x1,y1"],
)
def test_columns_beside_the_usual_names_are_no_coordinates(header, tmp_path):
    write(tmp_path / "a.csv", header, T, *swing(), *swing(2))
    found = read_members(tmp_path, None, Asked())
    assert found.domain.names == ("q", "p")
    assert any("not used" in note for note in found.notes)


def test_two_positions_without_momenta_are_asked_for(tmp_path):
    write(tmp_path / "a.csv", "t,x,theta", T, *swing())
    with pytest.raises(ObservationError, match=r"could each be q; .*number them: --columns q1=x,q2=theta"):
        read_members(tmp_path, None, Asked())
    found = read_members(tmp_path, None, Asked(columns={"q1": "x", "q2": "theta"}))
    assert [c.kind for c in found.domain.coordinates] == ["length", "angle", "length", "length"]


def test_x_and_y_are_asked_for(tmp_path):
    q, _ = swing()
    write(tmp_path / "a.csv", "t,x,y", T, np.sin(q), -np.cos(q))
    with pytest.raises(ObservationError, match=r"type data\.dofs=2 or data\.dofs=1"):
        read_members(tmp_path, None, Asked())
    found = read_members(tmp_path, None, Asked(dofs=1))
    assert found.domain.coordinates[0].kind == "angle"
    assert np.allclose(found.members[0].observations[0].q[:, 0], q, atol=1e-4)


@pytest.mark.parametrize(
    ("header", "columns", "why"),
    [
        ("t (s),q (rad),p", [T[:1], *(part[:1] for part in swing())], "ends after 1 instant"),
        ("t (s),a,b", [T, *swing()], "unknown columns 'a', 'b'"),
        ("t (s),q1,q2,p1,p2", [T, *swing(), *swing()], "it has 2 coordinates, and most members have 1"),
        ("t (s),q (rad)", [T, swing()[0]], "it has no momenta p, and most members have"),
        ("t (s),q (m),p", [T, *swing()], "its position is a length, and that of most members an angle"),
        ("t (s),q,p", [T, *swing()], "it gives no unit of q, but other members do"),
        ("t (s),q (rad),p", [[], [], []], "it names its columns and has no rows"),
    ],
)
def test_a_bad_member_is_named_with_a_reason(folder, header, columns, why):
    write(folder / "strange.csv", header, *columns)
    found = read_members(folder, None, Asked())
    assert len(found.members) == 3
    assert list(found.refused) == ["strange"]
    assert why in found.refused["strange"]
    assert "\n" not in found.refused["strange"]


def test_what_holds_nothing_is_refused(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    for path, words in (("empty", "holds no recordings"), ("nowhere", "there is no such folder")):
        with pytest.raises(ObservationError, match=words):
            read_members(tmp_path / path, None, Asked())
    (folder / "members.csv").write_text("member,l\nrun8,1\n")
    with pytest.raises(ObservationError, match="member run8, of which there is no recording"):
        read_members(folder, None, Asked())
    write(folder / "run1.txt", "t (s),q (rad),p", T, *swing())
    with pytest.raises(ObservationError, match="member run1 stands there twice"):
        read_members(folder, None, Asked())
