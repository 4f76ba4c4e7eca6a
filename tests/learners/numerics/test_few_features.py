"""Features that only the errors of few recordings ask for are left out, and no others."""

import torch

from meta_hamiltonian.dynamics import Domain
from meta_hamiltonian.learners.numerics.few_features import needed, with_shifts
from meta_hamiltonian.learners.numerics.linear_head import head_rows
from meta_hamiltonian.models import NaturalNetwork
from meta_hamiltonian.systems import Pendulum


def tasks(noise, weak=1.0, count=7, rows=200):
    """Targets of features 1, 3 and 4 out of six, the last of them as weak as is asked, with errors that are smooth."""
    generator = torch.Generator().manual_seed(0)
    t = torch.linspace(0, 1, rows, dtype=torch.float64)
    phases = 6 * torch.rand(count, 6, 1, dtype=torch.float64, generator=generator)
    features = torch.stack([((i + 1) * 2.3 * t + phases[:, i]).cos() for i in range(6)], dim=-1)
    heads = (
        torch.randn(count, 6, 1, dtype=torch.float64, generator=generator)
        * torch.tensor([0, 1, 0, 1, weak, 0.0])[:, None]
    )
    errors = (40 * t + phases[:, 0]).sin()[..., None]
    return features, features @ heads + noise * errors, torch.full((count,), float(rows))


def test_what_smooth_errors_look_like_is_left_out():
    assert needed(*tasks(0.03)).tolist() == [1, 3, 4]


def test_a_weak_term_that_stands_out_of_the_errors_is_kept():
    assert needed(*tasks(0.03, weak=0.1)).tolist() == [1, 3, 4]
    assert needed(*tasks(0.03, weak=0.001)).tolist() == [1, 3]


def test_rows_that_a_task_does_not_have_count_for_nothing():
    features, targets, rows = tasks(0.03)
    shorter = rows.clone()
    shorter[0] = 120
    features[0, 120:], targets[0, 120:] = 0.0, 0.0
    assert needed(features, targets, shorter).tolist() == [1, 3, 4]


def test_of_smooth_errors_many_features_fit_a_part_that_few_do_not():
    """Errors that forty waves explain are no evidence for those of them that are features."""
    generator = torch.Generator().manual_seed(1)
    t = torch.linspace(0, 1, 400, dtype=torch.float64)
    waves = (torch.pi * torch.arange(40)[:, None] * t).cos().T
    errors = waves @ torch.randn(6, 40, 1, dtype=torch.float64, generator=generator)
    features = waves[:, :25].expand(6, -1, -1)
    targets = features[..., 3:4] * 30 + errors
    rows = torch.full((6,), 400.0)
    assert len(needed(features, targets, rows)) > 10
    assert needed(features, targets, rows, torch.full((6,), 40.0)).tolist() == [3]


def test_a_shift_of_positions_asks_for_its_features():
    """With cos q comes sin q, and with q² comes q; momenta, whose zero is not arbitrary, ask for nothing."""
    pendulum = NaturalNetwork(2, width=8, domain=Pendulum().domain)
    plain = pendulum.plain_features.nonzero()[:, 0]
    fields = head_rows(pendulum.double(), STATES)[..., plain].unflatten(0, (-1, 2))
    q, p = STATES.unbind(-1)
    wave = [i for i in range(len(plain)) if is_multiple(fields[:, 1, i], q.sin())]
    square = [i for i in range(len(plain)) if is_multiple(fields[:, 0, i], p)]
    assert len(wave) == len(square) == 1
    found = with_shifts(pendulum, plain[wave + square], plain)
    others = [i for i in found.tolist() if i not in plain[wave + square].tolist()]
    assert len(others) == 1
    assert is_multiple(fields[:, 1, plain.tolist().index(others[0])], q.cos())
    assert with_shifts(pendulum, plain[square], plain).tolist() == plain[square].tolist()


def test_a_shift_of_a_length_lowers_powers():
    spring = NaturalNetwork(2, width=8, domain=Domain.box((2.0, 3.0)))
    plain = spring.plain_features.nonzero()[:, 0]
    fields = head_rows(spring.double(), STATES)[..., plain].unflatten(0, (-1, 2))
    square = [i for i in range(len(plain)) if is_multiple(fields[:, 1, i], STATES[:, 0])]
    found = with_shifts(spring, plain[square], plain)
    assert len(found) == 2
    linear = next(i for i in found.tolist() if i != plain[square[0]])
    assert is_multiple(fields[:, 1, plain.tolist().index(linear)], torch.ones(len(STATES)))


STATES = torch.rand(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 4 - 2


def is_multiple(values, expected):
    """Whether a part of a field is a multiple of this function, and not 0."""
    expected = expected.to(values)
    factor = (values @ expected) / (expected @ expected)
    return bool(factor.abs() > 1e-6 and (values - factor * expected).abs().max() < 1e-9 * values.abs().max())
