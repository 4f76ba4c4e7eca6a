"""A family from recordings: how it is split, where it lives, and which members are no members."""

import logging
import re

import numpy as np
import pytest
import torch
from driven import driven_springs
from hydra.core.override_parser.overrides_parser import OverridesParser

from meta_hamiltonian.basics.exceptions import ConfigError
from meta_hamiltonian.episodes.recorded import RecordedBatches, RecordedDataModule, with_forces
from meta_hamiltonian.episodes.recordings import load_recordings
from meta_hamiltonian.observations.instrument import Instrument, record
from meta_hamiltonian.observations.shape import Asked
from meta_hamiltonian.systems import Spring


@pytest.fixture(scope="module")
def springs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("springs")
    record(Spring(), 10, folder, Instrument(duration=5.0, rate=8.0, noise=1e-3))
    return folder


@pytest.fixture
def copy(springs, tmp_path):
    """The folder as a copy that a test may spoil, without its table of parameters."""
    for file in springs.glob("member-*.csv"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def names(members):
    return [one.name for one in members]


def test_members_are_split_by_seed(springs):
    found = load_recordings(str(springs), held_out=0.2)
    assert [len(part) for part in (found.train, found.val, found.test)] == [6, 2, 2]
    assert sorted(names([*found.train, *found.val, *found.test])) == [f"member-{i:02d}" for i in range(1, 11)]
    again = load_recordings(str(springs), held_out=0.2)
    assert again.fingerprint == found.fingerprint
    assert names(again.test) == names(found.test)
    other = load_recordings(str(springs), held_out=0.2, split=1)
    assert names(other.test) != names(found.test)
    assert other.fingerprint != found.fingerprint
    assert len(load_recordings(str(springs), held_out=0.0).train) == 10


@pytest.mark.parametrize(("members", "parts"), [(2, (2, 0, 0)), (3, (2, 0, 1)), (5, (4, 0, 1)), (6, (4, 1, 1))])
def test_few_members_are_for_training_first(copy, members, parts):
    for file in sorted(copy.glob("member-*.csv"))[members:]:
        file.unlink()
    (copy / "members.csv").unlink(missing_ok=True)
    found = load_recordings(str(copy))
    assert tuple(len(part) for part in (found.train, found.val, found.test)) == parts


@pytest.mark.parametrize(("held_out", "parts"), [(0.4, (6, 0, 4)), (1.0, (2, 0, 8))])
def test_members_are_left_for_training_however_many_are_to_be_held_out(springs, held_out, parts):
    found = load_recordings(str(springs), held_out=held_out)
    assert tuple(len(part) for part in (found.train, found.val, found.test)) == parts


def test_members_are_split_by_a_column(copy):
    rows = [f"member-{i:02d},{'test' if i > 8 else 'val' if i > 6 else 'train'}" for i in range(1, 11)]
    (copy / "members.csv").write_text("\n".join(["member,part", *rows]))
    found = load_recordings(str(copy), split="part")
    assert names(found.test) == ["member-09", "member-10"]
    (copy / "members.csv").write_text("\n".join(["member,part", *rows[:-1], "member-10,later"]))
    with pytest.raises(ConfigError, match="says 'later' for member-10; give train, val or test"):
        load_recordings(str(copy), split="part")


def test_the_domain_holds_what_was_observed_with_a_margin(springs):
    found = load_recordings(str(springs), margin=0.25)
    x = torch.cat([one.points.x for one in (*found.train, *found.val)])
    low, high = x.amin(0), x.amax(0)
    ends = torch.tensor([(c.low, c.high) for c in found.domain.coordinates]).double()
    low, high = low - 0.25 * (high - low), high + 0.25 * (high - low)
    most = torch.maximum(-low[1], high[1])  # momenta of either sign: around 0
    assert torch.allclose(ends, torch.stack([torch.stack([low[0], high[0]]), torch.stack([-most, most])]))


def test_rates_are_those_of_the_recordings(springs):
    """A spring's dp/dt is proportional to q, whatever its parameters."""
    for one in load_recordings(str(springs)).train:
        q, rate = one.points.x[:, 0], one.points.dxdt[:, 1]
        assert np.corrcoef(q, rate)[0, 1] < -0.97
        assert (one.variance > 0).all()
        assert (one.variance < 0.1 * one.points.dxdt.square().mean(0)).all()


def test_two_members_alike_are_refused_or_left_out(copy):
    (copy / "twin.csv").write_bytes((copy / "member-03.csv").read_bytes())
    with pytest.raises(ConfigError, match=r"twin: it holds the same observations as member-03; .*skip_bad=true"):
        load_recordings(str(copy))
    found = load_recordings(str(copy), skip_bad=True)
    assert "twin" not in names([*found.train, *found.val, *found.test])


def test_a_member_that_is_none_is_said_with_a_number(copy, caplog):
    lines = (copy / "member-02.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    scaled = [f"{t},{1000 * float(q):.6g},{1000 * float(p):.6g}" for t, q, p in rows]
    (copy / "member-02.csv").write_text("\n".join([lines[0], *scaled]))
    with caplog.at_level(logging.WARNING):
        found = load_recordings(str(copy))
    assert len([*found.train, *found.val, *found.test]) == 10
    (said,) = [r.message for r in caplog.records]
    assert said.startswith("member-02 is unlike the other members: ")
    assert "times that of the median" in said
    left = load_recordings(str(copy), skip_bad=True)
    assert "member-02" not in names([*left.train, *left.val, *left.test])


def test_one_member_is_no_family(copy):
    for file in list(copy.glob("member-*.csv"))[1:]:
        file.unlink()
    with pytest.raises(ConfigError, match="a family needs at least 2 members, and 1 can be used; record more"):
        load_recordings(str(copy))


def test_meta_batches_mix_lengths_and_are_functions_of_their_number(copy):
    lines = (copy / "member-01.csv").read_text().splitlines()
    (copy / "member-01.csv").write_text("\n".join(lines[:12]))
    members = load_recordings(str(copy), held_out=0.0).train
    batches = RecordedBatches(members, 50, 8, 8, False, 0, torch.float64)
    batch = batches[3]
    assert len(batch) == 10
    assert batch.support.mask is not None
    assert batch.support.counts.min() < 8 == batch.support.counts.max()
    again = RecordedBatches(members, 50, 8, 8, False, 0, torch.float64)[3]
    assert torch.equal(batch.support.x, again.support.x)
    assert not torch.equal(batch.support.x, batches[4].support.x)


@pytest.mark.parametrize("query", ["random", "later"])
def test_queries_are_any_points_or_later_ones(springs, query):
    recordings = load_recordings(str(springs))
    data = RecordedDataModule(recordings, 50, 10, 10, query, 0, torch.float64)

    def places(member, points, task):
        x = points.x[task][: int(points.counts[task])]
        return (x[:, None] == member.points.x).all(-1).nonzero()[:, 1]

    later = []
    for task, member in enumerate([*recordings.train, *recordings.val]):
        support, queries = (places(member, part, task) for part in (data.known.support, data.known.query))
        assert not set(support.tolist()) & set(queries.tolist())
        later.append(bool(support.max() < queries.min()))
    assert set(later) == {query == "later"}


def test_friction_gives_points_a_free_column(springs):
    member = load_recordings(str(springs)).train[0]
    free = with_forces(member, ("viscous",)).free
    assert free is not None
    assert torch.equal(free[:, 0, 0], torch.zeros(len(member.points.x)).double())
    assert torch.equal(free[:, 1, 0], -member.points.dxdt[:, 0])
    assert with_forces(member, ()).free is None


def test_measured_inputs_give_points_a_free_column(tmp_path):
    t = np.arange(60) / 5
    driven_springs(tmp_path, 4, t, free=1)
    found = load_recordings(str(tmp_path), held_out=0.0)
    assert found.driven
    assert "3 members of 4 are driven by measured inputs; each of them has gains of its own" in found.notes
    free, driven = found.train[0], found.train[1]
    assert driven.inputs is not None
    table = np.genfromtxt(tmp_path / "1.csv", delimiter=",", skip_header=1)
    rows = np.searchsorted(table[:, 0], t)[np.isin(table[:, 1], driven.paths[0].observed[:, 0].numpy())]
    at = {round(q, 9): u for q, u in zip(table[rows, 1], table[rows, 3], strict=True)}
    path = driven.paths[0]
    own = [i for i, x in enumerate(path.x) if (driven.points.x == x).all(1).any()]
    expected = [at[round(path.observed[i, 0].item(), 9)] for i in own]
    assert driven.inputs[:, 0].tolist() == pytest.approx(expected, abs=1e-9)
    columns = with_forces(driven, ("viscous",)).free
    assert columns is not None
    assert torch.equal(columns[:, 1, 1], driven.inputs[:, 0])
    assert not columns[:, 0].any()
    assert free.inputs is not None
    assert not free.inputs.any(), "nothing pushes it"
    batch = RecordedDataModule(found, 4, 20, 20, "random", 0).batches[0]
    assert batch.support.free is not None
    assert batch.support.free.shape[-1] == 1


def test_members_with_another_number_of_inputs_are_refused(tmp_path):
    driven_springs(tmp_path, 3, np.arange(60) / 5)
    lines = (tmp_path / "2.csv").read_text().splitlines()
    (tmp_path / "2.csv").write_text("\n".join(["t,q,p,u1,u2", *(f"{line},0.5" for line in lines[1:])]))
    with pytest.raises(ConfigError, match="2: it has 2 measured inputs, and most members have 1"):
        load_recordings(str(tmp_path))
    assert names(load_recordings(str(tmp_path), skip_bad=True, held_out=0.0).train) == ["0", "1"]


def test_what_an_error_advises_can_be_typed(copy):
    """The options of `adapt` that errors of files advise are keys of `train.py`, as a shell passes them on."""
    for file in copy.glob("member-*.csv"):
        table = np.loadtxt(file, delimiter=",", skiprows=1)
        np.savetxt(file, table, delimiter=",", header="t,x,angle (deg)", comments="")
    with pytest.raises(ConfigError) as refused:
        load_recordings(str(copy))
    assert "--" not in str(refused.value)
    advised = re.findall(r"(data\.columns)='([^']*)'", str(refused.value))
    assert len(advised) == 3
    kinds = []
    for key, value in advised:
        columns = OverridesParser.create().parse_override(f"{key}={value}").value()
        assert isinstance(columns, dict)
        asked = Asked(columns={str(quantity): str(name) for quantity, name in columns.items()})
        kinds.append([one.kind for one in load_recordings(str(copy), asked=asked).domain.coordinates])
    assert kinds == [["length", "length"], ["angle", "length"], ["length", "angle", "length", "length"]]


@pytest.mark.parametrize(
    ("columns", "advice"),
    [
        ({"q": "angle"}, "data.columns='{q: angle}': there is no such column"),
        ({"q": "q", "p": "q"}, "data.columns: q and p cannot both be 'q'"),
    ],
)
def test_keys_that_are_wrong_are_named_as_keys(copy, columns, advice):
    with pytest.raises(ConfigError) as refused:
        load_recordings(str(copy), asked=Asked(columns=columns))
    assert advice in str(refused.value)
