"""The domain: box, exclusions, angles, draws, grids, labels."""

import json
import math

import pytest
import torch

from meta_hamiltonian.dynamics import Coordinate, Domain, Exclusion

PENDULUM = Domain.box((2 * math.pi, 20.0), angles=("q",))
SHIFTED = Domain.box(
    {"x": (1.0, 3.0), "y": (-4.0, 0.0), "px": (-1.0, 1.0), "py": (0.0, 2.0)},
    units={"x": "m", "px": "kg m/s"},
    exclusions=(Exclusion(((1, 0, 0, 0), (0, 1, 0, 0)), (2.0, -2.0), 0.5),),
    time_unit="s",
)


def test_a_box_has_any_centre():
    assert SHIFTED.centre == (2.0, -2.0, 0.0, 1.0)
    assert SHIFTED.half_widths == (1.0, 2.0, 1.0, 1.0)
    x = SHIFTED.draw(0, ("a",), range(50), 40)
    low, high = (torch.tensor([getattr(c, end) for c in SHIFTED.coordinates]) for end in ("low", "high"))
    assert ((low <= x) & (x <= high)).all()
    assert ((x - low) / (high - low)).mean((0, 1)).sub(0.5).abs().max() < 0.03, "all of it"


def test_names_units_and_labels():
    assert PENDULUM.labels == ("q (rad)", "p (dimensionless)")
    assert SHIFTED.labels == ("x (m)", "y (dimensionless)", "px (kg m/s)", "py (dimensionless)")
    assert (PENDULUM.time_label, SHIFTED.time_label) == ("t (dimensionless)", "t (s)")
    assert (PENDULUM.duration(20.0), SHIFTED.duration(2.5)) == ("20 time units", "2.5 s")
    assert Domain.box((1, 1, 1, 1)).names == ("q1", "q2", "p1", "p2")


def test_what_is_excluded_is_neither_drawn_nor_on_the_grid():
    for x in (SHIFTED.draw(0, ("a",), range(50), 40), SHIFTED.grid(), SHIFTED.sobol(100)):
        assert ((x[..., :2] - torch.tensor([2.0, -2.0])).norm(dim=-1) >= 0.5).all()
    assert SHIFTED.outside(torch.tensor([[2.1, -2.0, 0, 1], [2.1, -3.0, 0, 1]]).double()).tolist() == [True, False]


def test_a_distance_may_be_the_size_of_a_coordinate():
    around = Exclusion.around_zero(1, 4, 0.5)
    assert around.coordinate == 1
    x = torch.tensor([[3.0, -0.2, 1.0, 1.0], [0.0, 2.0, 1.0, 1.0]])
    assert around.distance(x).tolist() == pytest.approx([0.2, 2.0])
    for others in (
        Exclusion(((1, 0, 0, 0), (0, 1, 0, 0)), (0, 0), 1),
        Exclusion(((0, 1, 0, 0),), (0.3,), 1),
        Exclusion(((1, -1, 0, 0),), (0,), 1),
        Exclusion(((0, 2, 0, 0),), (0,), 1),
    ):
        assert others.coordinate is None


def test_point_k_of_task_i_depends_on_nothing_else():
    whole = SHIFTED.draw(3, ("a",), range(20), 30)
    assert torch.equal(SHIFTED.draw(3, ("a",), range(7, 9), 11), whole[7:9, :11])
    assert not torch.equal(SHIFTED.draw(4, ("a",), range(20), 30), whole)

    def admits(x):
        return x[..., 0] > 2.5

    some = SHIFTED.draw(3, ("a",), range(20), 30, admits)
    assert admits(some).all()
    assert torch.equal(SHIFTED.draw(3, ("a",), range(7, 9), 11, admits), some[7:9, :11])
    assert torch.equal(some[admits(whole)], whole[admits(whole)]), "what was admitted is kept"


def test_a_domain_of_which_nothing_is_left_says_so():
    with pytest.raises(ValueError, match="no state that is allowed"):
        SHIFTED.draw(0, ("a",), range(2), 3, lambda x: torch.zeros(x.shape[:-1], dtype=torch.bool))


def test_the_grid_of_one_degree_of_freedom_has_the_boxs_edges():
    grid = PENDULUM.grid(50)
    assert grid.shape == (2500, 2)
    assert grid.amin(0).tolist() == pytest.approx([-2 * math.pi, -20])
    assert grid.amax(0).tolist() == pytest.approx([2 * math.pi, 20])


@pytest.mark.parametrize("n", [2, 3, 8])
def test_beyond_it_has_2500_points_that_fill_the_box_evenly(n):
    grid = Domain.box([1.0] * 2 * n).grid(50)
    assert grid.shape == (2500, 2 * n)
    assert grid.mean(0).abs().max() < 0.01
    assert (grid.square().mean(0) - 1 / 3).abs().max() < 0.01


def test_an_angle_that_turns_is_not_bounded_and_is_wrapped():
    x = torch.tensor([[0.5, 1.0], [6.2, 1.0], [6.4, 1.0], [-50.0, 1.0], [0.0, 41.0]], dtype=torch.float64)
    assert PENDULUM.outside(x, reach=2.0).tolist() == [False, False, False, False, True]
    assert PENDULUM.outside(x, reach=2.0, angles=True).tolist() == [False, False, False, True, True]
    wrapped = PENDULUM.wrap(x)
    assert torch.equal(wrapped[:2], x[:2]), "inside the box nothing changes"
    assert ((wrapped - x)[:, 0] / (2 * math.pi)).frac().abs().max() < 1e-12
    assert wrapped[:, 0].abs().max() <= 2 * math.pi
    assert torch.equal(wrapped[:, 1], x[:, 1])


def test_an_angle_whose_box_is_no_whole_turn_is_bounded():
    part = Domain.box((1.0, 2.0), angles=("q",))
    x = torch.tensor([[1.5, 0.0]], dtype=torch.float64)
    assert part.outside(x).item()
    assert torch.equal(part.wrap(x), x)


def test_settings_are_plain_values_that_make_it_again():
    for domain in (PENDULUM, SHIFTED):
        assert Domain.from_settings(json.loads(json.dumps(domain.settings()))) == domain


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Domain.box((1.0, 2.0, 3.0)), "even number of coordinates"),
        (lambda: Domain.box(()), "even number of coordinates"),
        (lambda: Domain.box({"q": (1.0, -1.0), "p": (-1.0, 1.0)}), "box of q .*low < high"),
        (lambda: Domain.box({"q": (-math.inf, 1.0), "p": (-1.0, 1.0)}), "box of q .*finite"),
        (lambda: Domain.box((1.0, 1.0), angles=("phi",)), "phi is no coordinate; choose from q, p"),
        (lambda: Domain((Coordinate("q", -1, 1), Coordinate("q", -1, 1))), "names .* must differ"),
        (lambda: Coordinate("q", -1, 1, kind="colour"), "kind='colour'.*angle, length"),
        (lambda: Domain.box((1.0, 1.0), exclusions=(Exclusion(((1, 0, 0),), (0,), 1),)), "2 numbers each"),
        (lambda: Exclusion(((1, 0),), (0, 0), 1), "a row .* for each number"),
        (lambda: Exclusion(((1, 0),), (0,), 0), "radius above 0"),
    ],
)
def test_what_is_no_domain_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
