"""What pictures and texts of all tasks have in common, those by default included."""

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


@pytest.mark.parametrize("render_mode", ["rgb_array", "ansi"])
def test_every_render_mode_survives_the_checks_of_gym_make(each, render_mode):
    env = gym.make(each[0], render_mode=render_mode, **each[1])
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert env.render() is not None
    env.close()
    env.close()


def test_a_picture_has_the_declared_form_and_shows_what_was_done(each):
    env = start(each[0], "rgb_array", **each[1])
    frames = []
    for seed in (0, 1):
        env.reset(seed=5)
        for action in random_actions(env.action_space, env.task.num_steps, seed=seed):
            env.step(action)
        frames.append(env.render())
    for frame in frames:
        assert frame.shape == (480, 720, 3)
        assert frame.dtype == np.uint8
        assert frame.std() > 10
    assert not np.array_equal(*frames)


def test_a_frame_is_the_callers_own_and_a_reset_starts_anew():
    env = start("PlasticCopy-v0", "rgb_array")
    kept = env.render()
    env.render()[...] = 0
    env.step(np.zeros(1, np.float32))
    assert not np.array_equal(env.render(), kept)
    env.reset(seed=5)
    np.testing.assert_array_equal(env.render(), kept)


def test_a_batch_renders_a_frame_per_environment_as_single_ones_do(each):
    mode = "rgb_array" if each[0] in ("PlasticCopy-v0", "PlasticMaze-v0") else "ansi"
    envs = start(each[0], mode, num_envs=2, **each[1])
    single = start(each[0], mode, **each[1])
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
def test_a_batch_shows_the_end_of_an_episode_or_the_start_of_the_next(each, mode):
    envs = start(each[0], "ansi", num_envs=2, autoreset_mode=mode, **each[1])
    total = envs.unwrapped.task.num_steps
    actions = random_actions(envs.single_action_space, total, 2)
    rewards = sum(envs.step(row)[1] for row in actions)
    digits = 0 if "FewShot" in each[0] else 3
    for frame, reward in zip(envs.render(), rewards, strict=True):
        done, earned = (total, reward) if mode == "NextStep" else (0, 0)
        last = frame.splitlines()[-1]
        assert last == f"return {earned:.{digits}f} after {done} of {total} steps"


@pytest.mark.parametrize(("num_envs", "nothing"), [(None, None), (2, (None, None))])
def test_rendering_without_a_mode_warns(num_envs, nothing):
    env = start("PlasticCopy-v0", None, num_envs=num_envs)
    with pytest.warns(UserWarning, match="without a render_mode"):
        assert env.render() == nothing
