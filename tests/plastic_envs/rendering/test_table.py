"""The table and the picture of questions and answers."""

import gymnasium as gym
import numpy as np
import pytest

from plastic_envs import make_task
from plastic_envs.rendering import table
from plastic_envs.rendering.canvas import pixels
from plastic_envs.rendering.view import View


def start(env_id, **kwargs):
    env = gym.make(env_id, render_mode="ansi", **kwargs).unwrapped
    env.reset(seed=5)
    return env


def cells(line):
    """Split a line of the table into step, mark and columns."""
    step, *rest = line.split()
    marked = rest[0] == "*"
    return int(step), marked, rest[1:] if marked else rest


def test_the_text_tells_the_steps_so_far_and_nothing_of_what_is_to_come(real_valued):
    env_id, kwargs = real_valued
    task = make_task(env_id, **kwargs)
    episode = [array[0] for array in task.sample_episodes(1, seed=5)]
    env = start(env_id, **kwargs)
    actions = np.random.default_rng(0).uniform(-1, 1, episode[1].shape).astype(np.float32)
    rewards = []
    for done in range(task.num_steps + 1):
        lines = env.render().splitlines()
        seen = min(done + 1, task.num_steps)
        assert len(lines) == 1 + seen + 1
        assert lines[-1] == f"return {sum(rewards):.3f} after {done} of {task.num_steps} steps"
        for t, line in enumerate(lines[1:-1]):
            step, marked, columns = cells(line)
            values = list(episode[0][t])
            hidden = 2 * task.action_space.shape[0] + 1
            if t < done:
                values += [*episode[1][t], *actions[t], rewards[t]]
                hidden = 0
            assert step == t
            assert marked == episode[2][t]
            assert columns == [f"{value:.2f}" for value in values] + ["·"] * hidden
        if done < task.num_steps:
            rewards.append(env.step(actions[done])[1])


def test_the_text_names_its_columns():
    header = start("PlasticCopy-v0", dim=2).render().splitlines()[0]
    answers = ["target0", "target1", "answer0", "answer1"]
    assert header.split() == ["step", "value0", "value1", "show", "recall", *answers, "reward"]
    header = start("PlasticCueReward-v0", cue_size=1).render().splitlines()[0]
    shown = ["cue0", "shown_reward", "hidden"]
    assert header.split() == ["step", *shown, "target", "answer", "reward"]


def lines_of(monkeypatch, answers):
    """The labels of what is drawn of an episode with some answers, and the lowest and highest."""
    drawn = {}

    def keep(figure):
        axes = figure.axes[1]
        low, high = axes.get_ylim()
        for line in axes.get_lines():
            heights = np.asarray(line.get_ydata(), float)
            assert ((heights >= low) & (heights <= high)).all()
            drawn[line.get_label()] = len(heights)
        return pixels(figure)

    monkeypatch.setattr(table, "pixels", keep)
    task = make_task("PlasticCopy-v0", length=2)
    view = View(task, task.sample_episodes(1, seed=0), np.float32(answers)[:, None])
    assert task.picture(view).shape == (480, 720, 3)
    assert all(len(line) < 100 for line in task.text(view).splitlines())
    return drawn


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([0, 0.1, -0.1, 0], {"answer": 4}),
        ([50, 0, -3e38, 2], {"answer": 1, "above the axis": 2, "below the axis": 1}),
        ([np.inf, -np.inf, np.nan, 0], {"answer": 1, "above the axis": 1, "no number": 1}),
    ],
)
def test_every_answer_is_in_the_picture(monkeypatch, answers, expected):
    drawn = lines_of(monkeypatch, answers)
    assert drawn["target"] == 4
    assert expected.items() <= drawn.items()
