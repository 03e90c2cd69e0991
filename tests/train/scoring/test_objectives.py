"""Losses and answers by hand."""

import math

import numpy as np
import pytest
import torch

from plastic_envs.tasks import Copy, CueReward, FewShot
from train.scoring.objectives import CrossEntropy, SquaredError, masked_mean, objective_of


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_cross_entropy_is_the_negative_log_likelihood_of_the_right_choice():
    logits, targets = 3 * random(2, 5, 4), torch.arange(10).view(2, 5) % 4
    losses = CrossEntropy().losses(logits, targets)
    assert losses.shape == (2, 5)
    for b, t in np.ndindex(2, 5):
        shares = [math.exp(logit) for logit in logits[b, t].tolist()]
        expected = -math.log(shares[targets[b, t]] / sum(shares))
        assert losses[b, t].item() == pytest.approx(expected)


def test_equal_logits_cost_the_logarithm_of_the_number_of_choices():
    losses = CrossEntropy().losses(torch.full((1, 1, 5), 7.0), torch.tensor([[2]]))
    assert losses.item() == pytest.approx(math.log(5))


def test_cross_entropy_of_huge_logits_is_finite():
    losses = CrossEntropy().losses(torch.tensor([[[1e4, 0.0]]]), torch.tensor([[1]]))
    assert losses.item() == 1e4


def test_the_answer_is_the_likeliest_choice():
    logits = torch.tensor([[[0.0, 2, 1], [3, 2, 1]], [[-1, -2, -0.5], [0, 0, 9]]])
    answers = CrossEntropy().answers(logits)
    assert answers.tolist() == [[1, 0], [2, 2]]
    assert CrossEntropy().answers(logits[0, 0]).item() == 1  # any number of axes before
    assert all(FewShot(n_way=3).action_space.contains(answer) for answer in answers.flat)


def test_squared_error_is_the_mean_over_the_entries_of_an_answer():
    outputs, targets = random(2, 3, 4), random(2, 3, 4, seed=1)
    losses = SquaredError().losses(outputs, targets)
    for b, t in np.ndindex(2, 3):
        pairs = zip(outputs[b, t].tolist(), targets[b, t].tolist(), strict=True)
        assert losses[b, t].item() == pytest.approx(sum((o - a) ** 2 for o, a in pairs) / 4)
    np.testing.assert_array_equal(SquaredError().answers(outputs), outputs.numpy())


@pytest.mark.parametrize(
    ("task", "kind", "size"),
    [
        (Copy(), SquaredError, 1),
        (CueReward(), SquaredError, 1),
        (FewShot(n_way=4), CrossEntropy, 4),
    ],
)
def test_the_action_space_says_the_objective(task, kind, size):
    objective = objective_of(task)
    assert type(objective) is kind
    assert objective.output_size(task) == size


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_the_masked_mean_is_over_the_mask_alone(bad):
    values = torch.tensor([[1.0, bad, 3.0], [bad, 8.0, bad]], requires_grad=True)
    mask = torch.tensor([[True, False, True], [False, True, False]])
    mean = masked_mean(values, mask)
    assert mean.item() == 4
    mean.backward()
    torch.testing.assert_close(values.grad, mask / 3)


def test_what_is_not_finite_within_the_mask_shows():
    values = torch.tensor([[1.0, math.inf]])
    assert masked_mean(values, torch.tensor([[True, True]])).item() == math.inf
