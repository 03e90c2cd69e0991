"""Association and pattern completion: what is drawn, and how well it can be played."""

from dataclasses import replace

import numpy as np
import pytest

from plastic_envs import make_task
from plastic_envs.images import Glyphs
from plastic_envs.tasks import Association, PatternCompletion
from tests.plastic_envs.players import SIGMAS


@pytest.mark.parametrize("kwargs", [{}, {"num_pairs": 55, "num_labels": 55, "num_queries": 3}])
def test_the_nearest_pattern_is_the_right_one_without_noise(kwargs):
    task = Association(**kwargs)
    episodes = task.sample_episodes(200, seed=0)
    assert task.score(task.oracle(episodes.observations), episodes) == task.optimal_score == 1


def test_noise_makes_patterns_hard_to_tell_and_leaves_no_known_optimum():
    scores = []
    for noise in (0.05, 0.3, 3.0):
        task = Association(noise=noise)
        assert task.optimal_score is None
        episodes = task.sample_episodes(2000, seed=1)
        assert task.observation_space.contains(episodes.observations[0, -1])
        scores.append(task.score(task.oracle(episodes.observations), episodes))
    assert scores[0] > 0.99 > scores[1] + 0.05 > scores[2] + 0.1 > task.chance_score


def test_an_association_is_shown_once_with_its_label_and_asked_for_without_it():
    task = Association(num_pairs=6, num_queries=4, num_labels=9)
    observations, targets, scored = task.sample_episodes(500, seed=2)
    patterns, labels, query = np.split(observations, [task.pattern_size, -1], axis=-1)
    np.testing.assert_array_equal(query[..., 0] == 1, scored)
    assert (scored == (np.arange(10) >= 6)).all()
    assert not labels[:, 6:].any()
    np.testing.assert_array_equal(labels[:, :6].argmax(-1), targets[:, :6])
    assert (labels[:, :6].sum(-1) == 1).all()
    assert all(len(set(row)) == 6 for row in targets[:, :6].tolist())
    same = (patterns[:, 6:, None] == patterns[:, None, :6]).all(-1)
    assert (same.sum(-1) == 1).all()
    np.testing.assert_array_equal(
        np.take_along_axis(targets[:, :6], same.argmax(-1), 1), targets[:, 6:]
    )
    for counts, size in (
        (np.bincount(same.argmax(-1).ravel()), 6),
        (np.bincount(targets[:, 0]), 9),
    ):
        n = counts.sum()
        assert (abs(counts - n / size) < SIGMAS * np.sqrt(n / size)).all()


def test_repeated_labels_are_drawn_each_for_itself():
    task = Association(num_pairs=2, num_labels=4, labels="repeated")
    _, targets, _ = task.sample_episodes(4000, seed=3)
    equal = (targets[:, 0] == targets[:, 1]).mean()
    assert abs(equal - 1 / 4) < SIGMAS * np.sqrt(3 / 16 / 4000)


def test_spaces_do_not_depend_on_the_number_of_pairs():
    few, many = Association(num_pairs=5, num_labels=55), Association(num_pairs=55, num_labels=55)
    assert few.observation_space == many.observation_space
    assert few.action_space == many.action_space


def test_more_pairs_than_exclusive_labels_are_refused():
    with pytest.raises(ValueError, match=r"^num_pairs must be at most num_labels=10 .* got 11: "):
        Association(num_pairs=11)
    assert Association(num_pairs=11, labels="repeated").num_steps == 12


def test_patterns_are_shown_whole_and_asked_for_with_a_part_erased():
    task = PatternCompletion(num_bits=9, presentations=3, num_queries=2, erased=0.3)
    observations, targets, scored = task.sample_episodes(300, seed=0)
    patterns, query = observations[..., :-1], observations[..., -1]
    np.testing.assert_array_equal(query == 1, scored)
    assert (scored == (np.arange(17) >= 15)).all()
    np.testing.assert_array_equal(patterns[:, :15], targets[:, :15])
    assert set(np.unique(targets)) == {-1, 1}
    erased = patterns[:, 15:] == 0
    assert (erased.sum(-1) == 3).all()
    np.testing.assert_array_equal(
        np.where(erased, targets[:, 15:], patterns[:, 15:]), targets[:, 15:]
    )
    share = erased.mean(axis=(0, 1))
    assert (abs(share - 1 / 3) < SIGMAS * np.sqrt(2 / 9 / 600)).all()
    rounds = targets[:, :15].reshape(300, 3, 5, 9)
    for again in (1, 2):  # all patterns, in an order of their own
        assert all(
            sorted(first.tolist()) == sorted(other.tolist())
            for first, other in zip(rounds[:, 0], rounds[:, again], strict=True)
        )
    assert (rounds[:, 0] != rounds[:, 1]).any()


@pytest.mark.parametrize("erased", [0, 0.5, 1])
def test_the_nearest_pattern_completes_bits(erased):
    task = PatternCompletion(erased=erased)
    episodes = task.sample_episodes(500, seed=4)
    score = task.score(task.oracle(episodes.observations), episodes)
    known = 1 - 1 / 5  # of wrong patterns if nothing is shown, half of whose bits differ by 2
    assert score == (pytest.approx(2 * known, abs=0.15) if erased == 1 else 0)
    assert task.chance_score == erased


def test_pictures_lack_rows_at_the_top_or_at_the_bottom():
    task = make_task("PlasticPatternCompletion-v0", source="glyphs", erased=0.25, split="test")
    assert (task.chance_score, task.random_score, task.optimal_score) == (None, None, 0)
    observations, targets, _ = task.sample_episodes(40, seed=5)
    assert task.observation_space.contains(observations[0, -1])
    side = int(np.sqrt(task.pattern_size))
    query = observations[:, -1, :-1].reshape(40, side, side)
    target = targets[:, -1].reshape(40, side, side)
    rows = (query == 0).all(axis=-1)
    np.testing.assert_array_equal(rows.sum(1), side // 4)
    assert set(rows.argmax(1)) == {0, side - side // 4}
    np.testing.assert_array_equal(query[~rows], target[~rows])
    assert task.score(task.oracle(observations), task.sample_episodes(40, seed=5)) < 0.05


def test_pictures_of_an_episode_are_of_different_classes_of_the_split():
    task = PatternCompletion(source=Glyphs(), num_patterns=4)
    images = task.for_split("test").images
    assert images.names != task.images.names
    gray = images.images.mean(-1).reshape(len(images.images), -1) / 127.5 - 1
    _, targets, _ = task.for_split("test").sample_episodes(5, seed=6)
    for episode in targets[:, :4]:
        found = [np.flatnonzero(np.isclose(gray, one, atol=1e-5).all(-1))[0] for one in episode]
        assert len(set(np.searchsorted(images.offsets, found, side="right"))) == 4
    bits = PatternCompletion()
    assert bits.for_split("test") is bits


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"erased": 1.5}, "^erased must be a share from 0 to 1, got 1.5"),
        ({"erased": -0.1}, "^erased must be"),
        ({"source": "paintings"}, "^source must be one of"),
        ({"root": "somewhere"}, "^root is for pictures: give a source"),
        ({"image_size": 8}, "^image_size is for pictures: give a source"),
        ({"split": "exam"}, "^split must be one of"),
        ({"source": "glyphs", "num_patterns": 10**5}, "^num_patterns=100000, but there are"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_name(kwargs, error):
    with pytest.raises(ValueError, match=error):
        PatternCompletion(**kwargs)


def test_a_replaced_task_is_checked_again():
    with pytest.raises(ValueError, match=r"^num_pairs must be at most"):
        replace(Association(), num_labels=4)
