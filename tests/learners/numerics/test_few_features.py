"""Features that only the errors of few recordings ask for are left out, and no others."""

import torch

from meta_hamiltonian.learners.numerics.few_features import needed


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
