import gymnasium as gym
import numpy as np
import pytest
from plastic_envs.interactive_rendering import _way

IDS = ["PlasticBandit-v0", "PlasticMaze-v0", "PlasticTargetSearch-v0"]


def start(env_id, mode, num_envs=None, **kwargs):
    if num_envs is None:
        env = gym.make(env_id, render_mode=mode, **kwargs).unwrapped
    else:
        env = gym.make_vec(env_id, num_envs=num_envs, render_mode=mode, **kwargs)
    env.reset(seed=5)
    return env


@pytest.mark.parametrize("env_id", IDS)
def test_a_picture_has_the_declared_form_and_changes(env_id):
    env = start(env_id, "rgb_array")
    frames = [env.render()]
    np.testing.assert_array_equal(env.render(), frames[0])
    for _ in range(env.task.num_steps):
        env.step(1)
        if env._step in (1, 10, env.task.num_steps):
            frames.append(env.render())
    for k, frame in enumerate(frames):
        assert frame.shape == (480, 720, 3)
        assert frame.dtype == np.uint8
        assert frame.std() > 10
        assert all(not np.array_equal(frame, later) for later in frames[k + 1 :])


@pytest.mark.parametrize("env_id", IDS)
def test_a_picture_shows_what_was_done(env_id):
    frames = []
    for action in (0, 1):
        env = start(env_id, "rgb_array")
        for _ in range(12):
            env.step(action)
        frames.append(env.render())
    assert not np.array_equal(*frames)


@pytest.mark.parametrize("mode", ["rgb_array", "ansi"])
@pytest.mark.parametrize("env_id", IDS)
def test_a_batch_renders_a_frame_per_environment_as_single_ones_do(env_id, mode):
    envs, single = start(env_id, mode, num_envs=2), start(env_id, mode)
    actions = np.random.default_rng(0).integers(2, size=(9, 2))
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
@pytest.mark.parametrize("env_id", IDS)
def test_a_batch_shows_the_end_of_an_episode_or_the_start_of_the_next(env_id, mode):
    envs = start(env_id, "ansi", num_envs=2, autoreset_mode=mode)
    total = envs.unwrapped.task.num_steps
    rewards = sum(envs.step(np.zeros(2, np.int64))[1] for _ in range(total))
    for frame, reward in zip(envs.render(), rewards, strict=True):
        done, earned = (total, reward) if mode == "NextStep" else (0, 0)
        assert frame.splitlines()[-1] == f"return {earned:.3f} after {done} of {total} steps"


def test_the_table_of_a_bandit():
    env = start("PlasticBandit-v0", "ansi", num_arms=2, num_trials=5)
    expected = []
    for step, arm in enumerate([0, 1, 1]):
        expected.append([str(step), str(arm), f"{env.step(arm)[1]:.0f}"])
    lines = env.render().splitlines()
    means = env._start.means[0]
    assert lines[0].split() == ["means", "0:", f"{means[0]:.2f}", "1:", f"{means[1]:.2f}"]
    assert lines[1].split() == ["step", "arm", "reward"]
    assert [line.split() for line in lines[2:-1]] == expected


def test_the_table_of_a_target_search_tells_nothing_of_what_is_to_come():
    env = start("PlasticTargetSearch-v0", "ansi")
    schedule, truth = env._start.schedule[0], env._start.truth[0]
    rewards = []
    for done in range(env.task.num_steps + 1):
        header, names, *lines, _ = env.render().splitlines()
        assert header == f"target {env._start.target[0]}"
        assert names.split() == ["step", "shown", "answer", "target", "reward"]
        assert len(lines) == min(done + 1, env.task.num_steps)
        for step, line in enumerate(lines):
            asked = schedule[step] == 4
            shown = "?" if asked else "·" if schedule[step] < 0 else str(schedule[step])
            told = ["·"] * 3
            if step < done:
                right = str(truth[step]) if asked else "·"
                told = ["1", right, f"{rewards[step]:.0f}"]
            assert line.split() == [str(step), *(["*"] if asked else []), shown, *told]
        if done < env.task.num_steps:
            rewards.append(env.step(1)[1])


def test_the_drawing_of_a_maze():
    env = start("PlasticMaze-v0", "ansi", size=5)
    goal = int(env._start.goal[0])
    env.step(0)
    rows = [line.split() for line in env.render().splitlines()[:5]]
    signs = [sign for row in rows for sign in row]
    assert signs.count("#") == 16
    assert signs[7] == "A" if goal != 7 else True
    assert signs[goal] == "R" or env._state.position[0] == goal
    assert len(signs) == 25
    assert env.render().splitlines()[5] == f"visits {env._state.visits[0]}"


def test_the_way_in_a_maze_starts_anew_after_a_visit():
    env = start("PlasticMaze-v0", "rgb_array", size=5)
    rng, way, visits = np.random.default_rng(0), [12], 0
    for _ in range(150):
        *_, info = env.step(rng.integers(4))
        place = int(env._state.position[0])
        way = [place] if info["reached"] else [*way, place]
        visits += info["reached"]
        assert _way(env._views(env._step)[0]).tolist() == way
    assert visits >= 2
