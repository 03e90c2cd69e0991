"""What pictures and texts of all tasks have in common, those by default included."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

from tests.plastic_envs.players import random_actions


def start(env_id, mode, num_envs=None, **kwargs):
    if num_envs is None:
        env = gym.make(env_id, render_mode=mode, **kwargs).unwrapped
    else:
        env = gym.make_vec(env_id, num_envs=num_envs, render_mode=mode, **kwargs)
    env.reset(seed=5)
    return env


def test_a_picture_has_the_declared_form_and_changes(variant):
    env = start(variant[0], "rgb_array", **variant[1])
    frames = [env.render()]
    np.testing.assert_array_equal(env.render(), frames[0])
    num_steps = env.task.num_steps
    for step, action in enumerate(random_actions(env.action_space, num_steps), start=1):
        env.step(action)
        if step in (2, num_steps):
            frames.append(env.render())
    for k, frame in enumerate(frames):
        assert frame.shape == (480, 720, 3)
        assert frame.dtype == np.uint8
        assert frame.std() > 10
        assert all(not np.array_equal(frame, later) for later in frames[k + 1 :])


def test_a_picture_shows_what_was_done(variant):
    frames = []
    for k in (0, 1):
        env = start(variant[0], "rgb_array", **variant[1])
        for action in random_actions(env.action_space, env.task.num_steps, seed=k):
            env.step(action)
        frames.append(env.render())
    assert not np.array_equal(*frames)


def test_a_frame_is_the_callers_own_and_a_reset_starts_anew():
    env = start("PlasticCopy-v0", "rgb_array")
    kept = env.render()
    env.render()[...] = 0
    env.step(np.zeros(1, np.float32))
    assert not np.array_equal(env.render(), kept)
    env.reset(seed=5)
    np.testing.assert_array_equal(env.render(), kept)


@pytest.mark.parametrize("mode", ["rgb_array", "ansi"])
def test_a_batch_renders_a_frame_per_environment_as_single_ones_do(variant, mode):
    envs = start(variant[0], mode, num_envs=2, **variant[1])
    single = start(variant[0], mode, **variant[1])
    steps = min(4, single.task.num_steps)
    actions = random_actions(single.action_space, steps, 2)
    for row in actions:
        envs.step(row)
    frames = envs.render()
    assert isinstance(frames, tuple)
    for k in range(2):
        if k:
            single.reset()
        for row in actions:
            single.step(row[k])
        np.testing.assert_array_equal(frames[k], single.render())


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_batch_shows_the_end_of_an_episode_or_the_start_of_the_next(variant, mode):
    envs = start(variant[0], "ansi", num_envs=2, autoreset_mode=mode, **variant[1])
    total = envs.unwrapped.task.num_steps
    actions = random_actions(envs.single_action_space, total, 2)
    rewards = sum(envs.step(row)[1] for row in actions)
    digits = 0 if "FewShot" in variant[0] else 3
    for frame, reward in zip(envs.render(), rewards, strict=True):
        done, earned = (total, reward) if mode == "NextStep" else (0, 0)
        last = frame.splitlines()[-1]
        assert last == f"return {earned:.{digits}f} after {done} of {total} steps"


@pytest.mark.parametrize(("num_envs", "nothing"), [(None, None), (2, (None, None))])
def test_rendering_without_a_mode_warns(num_envs, nothing):
    env = start("PlasticCopy-v0", None, num_envs=num_envs)
    with pytest.warns(UserWarning, match="without a render_mode"):
        assert env.render() == nothing


def test_drawing_costs_nothing_until_it_is_asked_for():
    code = "import sys, plastic_envs; print([m for m in ('matplotlib', 'PIL') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
