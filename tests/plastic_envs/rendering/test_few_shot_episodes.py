"""Picture and table of a few-shot episode: all that has happened, and nothing of what will."""

from dataclasses import replace

import numpy as np
import pytest

from plastic_envs import TaskEnv
from plastic_envs.rendering.view import View
from plastic_envs.tasks import FewShot

RIGHT, WRONG = (0x1B, 0x78, 0x37), (0xC5, 0x1B, 0x7D)


@pytest.fixture
def view(image_source):
    """An episode of three support images and three queries, the first of them answered wrongly."""
    task = FewShot(3, 1, 3, source=image_source)
    episodes = task.sample_episodes(1, seed=0)
    answers = np.zeros(4, np.int64)
    answers[3] = (episodes.targets[0, 3] + 1) % 3
    return View(task, episodes, answers)


def with_other(view, name, step):
    """The same view, but for an image, a label, a target or an answer."""
    observations, targets, _ = view.start
    if name in ("image", "label"):
        array = observations[name].copy()
        old = array[0, step]
        array[0, step] = 255 - old if name == "image" else np.roll(old, 1)
        return replace(view, start=view.start._replace(observations=observations | {name: array}))
    known = {targets[0, step], *view.actions[step : step + 1]}
    other = ({0, 1, 2} - known).pop()
    if name == "answers":
        answers = view.actions.copy()
        answers[step] = other
        return replace(view, actions=answers)
    targets = targets.copy()
    targets[0, step] = other
    return replace(view, start=view.start._replace(targets=targets))


def picture(view):
    return view.task.picture(view).astype(int)


def pixels_of(frame, color):
    return int((np.abs(frame - color).max(axis=-1) < 40).sum())


def rows_that_differ(frame, other):
    return np.flatnonzero((frame != other).any(axis=(1, 2)))


def test_the_picture_shows_support_above_queries_with_labels_answers_and_truth(view):
    frame = picture(view)
    assert frame.shape == (480, 720, 3)
    changes = [("image", 0), ("label", 1), ("image", 3), ("answers", 3), ("targets", 3)]
    rows = [rows_that_differ(frame, picture(with_other(view, *change))) for change in changes]
    assert all(len(changed) for changed in rows)
    image, label, query_image, answer, truth = rows
    assert image.max() < label.min()  # each is written below its image
    assert query_image.max() < answer.min()
    assert label.max() < query_image.min()
    assert truth.min() > query_image.max()


@pytest.mark.parametrize("draw", ["picture", "text"])
def test_what_is_to_come_is_not_told(view, draw):
    shown = getattr(view.task, draw)(view)
    for change in (("image", 5), ("targets", 4), ("targets", 5)):
        np.testing.assert_array_equal(getattr(view.task, draw)(with_other(view, *change)), shown)


def test_right_and_wrong_answers_have_colours(view):
    observations, targets, _ = view.start
    black = observations | {"image": np.zeros_like(observations["image"])}
    view = replace(view, start=view.start._replace(observations=black))
    wrong = picture(view)
    right = picture(replace(view, actions=targets[0, :4]))
    open_ = picture(replace(view, actions=view.actions[:3]))
    assert pixels_of(wrong, WRONG) > 100
    assert pixels_of(right, RIGHT) > 100
    assert not pixels_of(wrong, RIGHT) + pixels_of(right, WRONG)
    assert not pixels_of(open_, RIGHT) + pixels_of(open_, WRONG)


@pytest.mark.parametrize(("n_way", "k_shot", "n_query"), [(2, 1, 1), (20, 3, 20)])
def test_few_and_many_images_find_room(image_source, n_way, k_shot, n_query):
    task = FewShot(n_way, k_shot, n_query, source=image_source)
    env = TaskEnv(task, render_mode="rgb_array")
    env.reset(seed=0)
    for _ in range(task.num_steps - 1):
        env.step(0)
    before = env.render()
    env.step(0)
    for frame in (before, env.render()):
        assert frame.shape == (480, 720, 3)
        assert frame.dtype == np.uint8
        for edge in (frame[:3], frame[-3:], frame[:, :3], frame[:, -3:]):
            assert (edge == 255).all()
    assert not np.array_equal(before, env.render())


def test_the_text_tells_labels_answers_and_truth(image_source):
    env = TaskEnv(FewShot(source=image_source, n_way=2, n_query=2), render_mode="ansi")
    env.reset(seed=0)
    targets = env.task.sample_episodes(1, seed=0).targets[0]
    for action in (0, 0, targets[2]):
        env.step(action)
    header, *lines, total = env.render().splitlines()
    assert header.split() == ["step", "label", "answer", "target", "reward"]
    assert [line.split() for line in lines] == [
        ["0", str(targets[0]), "0", str(targets[0]), "0"],
        ["1", str(targets[1]), "0", str(targets[1]), "0"],
        ["2", "*", "·", str(targets[2]), str(targets[2]), "1"],
        ["3", "*", "·", "·", "·", "·"],
    ]
    assert total == "return 1 after 3 of 4 steps"


@pytest.mark.parametrize("mode", ["rgb_array", "ansi"])
def test_an_episode_that_is_over_looks_alike_in_all_forms_of_observation(image_source, mode):
    shown = []
    for form in ({}, {"label_mode": "delayed"}, {"flat": True, "label_mode": "delayed"}):
        env = TaskEnv(FewShot(source=image_source, n_way=2, **form), render_mode=mode)
        env.reset(seed=1)
        for _ in range(env.task.num_steps):
            env.step(0)
        shown.append(env.render())
    np.testing.assert_array_equal(shown[1], shown[0])
    np.testing.assert_array_equal(shown[2], shown[0])
