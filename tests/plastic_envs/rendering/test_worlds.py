"""Texts of the bandit, the target search and the maze."""

import gymnasium as gym
import numpy as np

from plastic_envs.rendering.view import View


def start(env_id, **kwargs):
    env = gym.make(env_id, render_mode="ansi", **kwargs).unwrapped
    env.reset(seed=5)
    return env


def test_the_table_of_a_bandit():
    env = start("PlasticBandit-v0", num_arms=2, num_trials=5)
    expected = []
    for step, arm in enumerate([0, 1, 1]):
        expected.append([str(step), str(arm), f"{env.step(arm)[1]:.0f}"])
    lines = env.render().splitlines()
    means = env._start.means[0]
    assert lines[0].split() == ["means", "0:", f"{means[0]:.2f}", "1:", f"{means[1]:.2f}"]
    assert lines[1].split() == ["step", "arm", "reward"]
    assert [line.split() for line in lines[2:-1]] == expected


def test_the_table_of_a_target_search_tells_nothing_of_what_is_to_come():
    env = start("PlasticTargetSearch-v0")
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
    env = start("PlasticMaze-v0", size=5)
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
    env = start("PlasticMaze-v0", size=5)
    rng, way, visits = np.random.default_rng(0), [12], 0
    for _ in range(150):
        *_, info = env.step(rng.integers(4))
        place = int(env._state.position[0])
        way = [place] if info["reached"] else [*way, place]
        visits += info["reached"]
        view = View(env.task, env._start, env._actions[0, : env._step])
        assert env.task._walk(view).way.tolist() == way
    assert visits >= 2
