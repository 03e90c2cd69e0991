import itertools

import numpy as np
import pytest
from gymnasium import spaces

from plastic_envs import make_task
from plastic_envs.tasks.interactive.bandit import (
    BestArm,
    ThompsonSampling,
    UpperConfidenceBound,
    WinStayLoseShift,
)
from plastic_envs.tasks.interactive.maze import KnowsGoal, Walker
from plastic_envs.tasks.interactive.target_search import BLANK
from plastic_envs.tasks.players import ConstantPlayer, RandomPlayer

MAZE = [
    "#########",
    "#.......#",
    "#.#.#.#.#",
    "#.......#",
    "#.#...#.#",
    "#.......#",
    "#.#.#.#.#",
    "#.......#",
    "#########",
]


def scores(task, player, num_episodes, seed=0):
    return task.play(player, num_episodes, seed).measures["score"]


def assert_mean(values, expected):
    """The mean is what is expected, to four standard errors."""
    error = values.std() / np.sqrt(len(values))
    assert values.mean() == pytest.approx(expected, abs=4 * error)
    assert error < 0.03 * max(1, abs(expected))


def rng(seed=1):
    return np.random.default_rng(seed)


SIZES = [
    ("PlasticBandit-v0", {}),
    ("PlasticBandit-v0", {"num_arms": 2, "num_trials": 10}),
    ("PlasticTargetSearch-v0", {}),
    ("PlasticTargetSearch-v0", {"num_cues": 3}),
    ("PlasticMaze-v0", {}),
    ("PlasticMaze-v0", {"size": 5, "episode_length": 40, "wall_penalty": 1}),
]


@pytest.mark.parametrize(("env_id", "kwargs"), SIZES)
def test_random_actions_score_what_is_said(env_id, kwargs):
    task = make_task(env_id, **kwargs)
    assert_mean(scores(task, RandomPlayer(task.action_space, rng()), 8000), task.random_score)


@pytest.mark.parametrize(("env_id", "kwargs"), SIZES)
def test_the_order_of_the_scores(env_id, kwargs):
    task = make_task(env_id, **kwargs)
    played = task.play(task.oracle_player(), 2000, seed=5)
    assert task.random_score < played.score < task.optimal_score * 1.02
    chance = task.chance_score
    assert chance is None or task.random_score <= chance < task.optimal_score
    assert task.higher_is_better
    assert isinstance(task.action_space, spaces.Discrete)


# --- bandit


@pytest.mark.parametrize("kwargs", [{}, {"num_arms": 2}, {"num_arms": 9, "num_trials": 20}])
def test_who_knows_the_best_arm_scores_the_bound(kwargs):
    task = make_task("PlasticBandit-v0", **kwargs)
    count = kwargs.get("num_arms", 5)
    assert task.optimal_score == count / (count + 1)
    assert_mean(scores(task, BestArm(), 8000), task.optimal_score)


@pytest.mark.parametrize("arm", [0, 4])
def test_a_fixed_arm_scores_chance(arm):
    task = make_task("PlasticBandit-v0")
    assert_mean(scores(task, ConstantPlayer(arm), 8000), task.chance_score)


@pytest.mark.parametrize(
    ("player", "kwargs", "expected"),
    [
        # Measured once, on 40,000 episodes of another seed; the errors there are 0.0008.
        (ThompsonSampling(rng()), {}, 0.751),
        (UpperConfidenceBound(), {}, 0.776),
        (UpperConfidenceBound(2**0.5), {}, 0.660),
        (WinStayLoseShift(), {}, 0.683),
        (ThompsonSampling(rng()), {"num_arms": 2}, 0.640),
    ],
)
def test_the_reference_players_score_what_the_page_says(player, kwargs, expected):
    task = make_task("PlasticBandit-v0", **kwargs)
    assert scores(task, player, 8000).mean() == pytest.approx(expected, abs=0.009)


def test_win_stay_lose_shift_in_its_first_two_trials():
    # E[first] = 1/2; then it stays on a mean that paid, 1/3 + 1/2 * 1/2.
    task = make_task("PlasticBandit-v0", num_trials=2)
    rewards = task.play(WinStayLoseShift(), 40_000, seed=0).rewards
    np.testing.assert_allclose(rewards.mean(axis=0), [1 / 2, 1 / 3 + 1 / 4], atol=0.01)


def test_thompson_sampling_follows_its_posterior():
    player = ThompsonSampling(rng())
    task = make_task("PlasticBandit-v0", num_arms=2)
    state = task.sample_states(20_000, seed=0)
    player.begin(state)
    for arm, reward in [(0, 1.0), (0, 0.0), (1, 1.0)]:
        player.learn(np.full(20_000, arm), np.full(20_000, reward))
    # P(Beta(2, 2) > Beta(2, 1)) = ∫ 6x(1 - x) x² dx = 3/10.
    first = (player.act(np.zeros((20_000, 1)), state) == 0).mean()
    assert first == pytest.approx(0.3, abs=0.015)


def test_upper_confidence_bound_by_hand():
    player, task = UpperConfidenceBound(0.5), make_task("PlasticBandit-v0", num_arms=3)
    state = task.sample_states(1, seed=0)
    player.begin(state)
    pulls, paid = np.zeros(3), np.zeros(3)
    for step, reward in enumerate([1, 0, 1, 1, 0, 0, 1, 0, 0, 1]):
        if step < 3:
            expected = step
        else:
            bounds = [paid[k] / pulls[k] + 0.5 * np.sqrt(np.log(step) / pulls[k]) for k in range(3)]
            expected = int(np.argmax(bounds))
        assert player.act(np.zeros((1, 1)), state)[0] == expected
        player.learn(np.array([expected]), np.array([float(reward)]))
        pulls[expected] += 1
        paid[expected] += reward


def test_arms_pay_with_their_means_and_trials_are_independent():
    task = make_task("PlasticBandit-v0", num_arms=3, num_trials=400)
    state = task.sample_states(500, seed=0)
    assert (state.means >= 0).all()
    assert (state.means < 1).all()
    assert state.means.mean() == pytest.approx(0.5, abs=0.03)
    assert state.means.var() == pytest.approx(1 / 12, abs=0.01)
    assert abs(np.corrcoef(state.means.T)[np.triu_indices(3, 1)]).max() < 0.15
    for arm in range(3):
        rewards = task.play(ConstantPlayer(arm), 500, seed=0).rewards
        assert set(np.unique(rewards)) == {0.0, 1.0}
        means = state.means[:, arm]
        error = np.sqrt(means * (1 - means) / 400) + 1e-3
        assert (abs(rewards.mean(axis=1) - means) < 5 * error).all()
        surplus = rewards - means[:, None]
        assert abs((surplus[:, 1:] * surplus[:, :-1]).mean()) < 0.005


def test_what_a_pull_tells():
    task = make_task("PlasticBandit-v0", num_arms=3)
    state = task.sample_states(200, seed=0)
    actions = rng().integers(3, size=200)
    infos = task.step(state, 0, actions).infos
    assert set(infos) == {"scored", "best_arm", "regret"}
    for k in range(200):
        means = state.means[k].tolist()
        assert infos["best_arm"][k] == means.index(max(means))
        assert infos["regret"][k] == pytest.approx(max(means) - means[actions[k]])
    assert infos["scored"].all()


# --- target search


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"num_cues": 2},
        {"num_cues": 3, "cue_size": 2},
        {"num_cues": 6, "cue_size": 30},
        {"cue_size": 2, "episode_length": 9},
        {"episode_length": 20},
    ],
)
def test_perfect_inference_scores_the_optimum(kwargs):
    task = make_task("PlasticTargetSearch-v0", **kwargs)
    assert_mean(scores(task, task.oracle_player(), 4000), task.optimal_score)


def test_the_optimum_of_four_cues_by_hand():
    # Mistakes: 1/2, then 1/3, 1/9, 1/27 …; with 10 and more trials one in all.
    task = make_task("PlasticTargetSearch-v0")
    played = task.play(task.oracle_player(), 10_000, seed=0)
    wrong = (played.rewards < 0) & played.scored
    number = played.scored.cumsum(axis=1)
    for trial, expected in enumerate([1 / 2, 1 / 3, 1 / 9, 1 / 27], start=1):
        now = played.scored & (number == trial)
        assert (wrong & now).sum() / now.sum() == pytest.approx(expected, abs=0.015)
    assert wrong.sum(axis=1).mean() == pytest.approx(1, abs=0.03)
    assert task.optimal_score == pytest.approx(1 - 1 / 18.2, abs=0.001)


@pytest.mark.parametrize(("num_cues", "shares"), [(4, (1 / 2, 1 / 2)), (3, (2 / 3, 1 / 3))])
def test_the_same_answer_always_scores_its_share(num_cues, shares):
    task = make_task("PlasticTargetSearch-v0", num_cues=num_cues)
    for answer, share in enumerate(shares):
        assert_mean(scores(task, ConstantPlayer(answer), 5000), share)
    assert task.chance_score == pytest.approx(max(shares))


def trials_of(schedule, num_cues):
    """Cut a schedule into trials, by the questions: each ends with the blank behind its own."""
    ends = [k + 2 for k in np.flatnonzero(schedule == num_cues)]
    return [schedule[a:b] for a, b in itertools.pairwise([0, *ends])], schedule[ends[-1] :]


@pytest.mark.parametrize("num_cues", [2, 3, 4, 7])
def test_trials_are_made_as_in_the_paper(num_cues):
    task = make_task("PlasticTargetSearch-v0", num_cues=num_cues)
    state = task.sample_states(400, seed=2)
    lengths, shown, firsts = [], [], []
    for k in range(400):
        trials, rest = trials_of(state.schedule[k], num_cues)
        assert len(rest) <= 2 + num_cues // 2 + num_cues - 1
        for trial in trials:
            if len(trial) and trial[-1] == num_cues:  # cut off behind its question
                trial = np.append(trial, BLANK)
            assert trial[0] == trial[-1] == BLANK
            assert trial[-2] == num_cues
            cues = trial[1:-2][trial[1:-2] != BLANK]
            assert len(cues) == len(set(cues)) == num_cues // 2
            lengths.append(len(trial))
            shown += list(cues)
            firsts.append(np.flatnonzero(trial[1:-2] != BLANK)[0])
    shortest = num_cues // 2 + 3
    values, counts = np.unique(lengths, return_counts=True)
    assert list(values) == list(range(shortest, shortest + num_cues))
    assert abs(counts / len(lengths) - 1 / num_cues).max() < 0.03
    shares = np.bincount(shown, minlength=num_cues) / len(shown)
    assert abs(shares - 1 / num_cues).max() < 0.02
    assert max(firsts) == num_cues - 1  # blanks come before cues, and among them


def test_order_and_places_of_cues_are_uniform():
    task = make_task("PlasticTargetSearch-v0")
    schedule = task.sample_states(30_000, seed=3).schedule
    # Of first trials with two blanks among the cues: 12 pairs in order, at 6 pairs of places.
    middle = schedule[schedule[:, 5] == 4][:, 1:5]
    seen, counts = np.unique(middle, axis=0, return_counts=True)
    assert len(seen) == 72
    assert (abs(counts - counts.mean()) < 5 * np.sqrt(counts.mean())).all()


def test_answers_are_asked_for_and_rewarded_as_said():
    task = make_task("PlasticTargetSearch-v0")
    state = task.sample_states(100, seed=4)
    actions = rng().integers(2, size=(100, task.num_steps))
    outcomes = [task.step(state, t, actions[:, t]) for t in range(task.num_steps)]
    views = [task.observe(state, t) for t in range(task.num_steps)]
    for k in range(100):
        target, shown = state.target[k], False
        for t in range(task.num_steps):
            shows = state.schedule[k, t]
            cue = state.cues[k, shows] if 0 <= shows < 4 else np.zeros(20)
            np.testing.assert_array_equal(views[t][k, :20], cue)
            assert views[t][k, 20] == (shows == 4)
            shown = shown or shows == target
            infos = {name: array[k] for name, array in outcomes[t].infos.items()}
            assert infos["scored"] == (shows == 4)
            if shows == 4:
                assert infos["target"] == shown
                assert outcomes[t].rewards[k] == (1 if actions[k, t] == shown else -1)
                shown = False
            else:
                assert outcomes[t].rewards[k] == 0


@pytest.mark.parametrize(("num_cues", "cue_size"), [(4, 2), (2, 1), (3, 2)])
def test_small_cues_all_differ_and_every_set_is_as_likely(num_cues, cue_size):
    task = make_task("PlasticTargetSearch-v0", num_cues=num_cues, cue_size=cue_size)
    cues = task.sample_states(24_000, seed=0).cues
    codes = ((cues > 0) * 2 ** np.arange(cue_size)).sum(axis=-1).astype(int)
    seen, counts = np.unique(codes, axis=0, return_counts=True)
    expected = list(itertools.permutations(range(2**cue_size), num_cues))
    assert [tuple(row) for row in seen] == expected
    assert (abs(counts - counts.mean()) < 5 * np.sqrt(counts.mean())).all()


def test_long_cues_have_fair_bits():
    task = make_task("PlasticTargetSearch-v0", cue_size=45)
    state = task.sample_states(4000, seed=0)
    assert set(np.unique(state.cues)) == {-1.0, 1.0}
    assert abs(state.cues.mean(axis=0)).max() < 0.08
    across = np.corrcoef(state.cues.reshape(4000, -1).T)
    assert abs(across - np.eye(len(across))).max() < 0.09
    assert abs(np.bincount(state.target) / 4000 - 1 / 4).max() < 0.04


def test_measures_of_target_search_by_hand():
    task = make_task("PlasticTargetSearch-v0")
    rewards = np.zeros((2, 120))
    scored = np.zeros((2, 120), np.bool_)
    scored[0, [3, 9, 15, 20, 26, 30, 40]] = True
    rewards[0, scored[0]] = [1, 1, -1, 1, 1, -1, 1]
    scored[1, [3, 9]] = True
    rewards[1, scored[1]] = [-1, 1]
    measured = task.measures(rewards, scored)
    np.testing.assert_allclose(measured["score"], [5 / 7, 1 / 2])
    np.testing.assert_allclose(measured["last_five"], [3 / 5, 1 / 2])


# --- maze


@pytest.mark.parametrize(
    "kwargs", [{}, {"size": 5, "episode_length": 50}, {"size": 7, "episode_length": 3}]
)
def test_shortest_ways_to_a_known_place_score_the_optimum(kwargs):
    task = make_task("PlasticMaze-v0", **kwargs)
    assert_mean(scores(task, KnowsGoal(task), 8000), task.optimal_score)


def test_the_reference_players_of_the_maze_score_what_the_page_says():
    task = make_task("PlasticMaze-v0")
    assert task.random_score == pytest.approx(8.72, abs=0.01)
    assert task.optimal_score == pytest.approx(520.4, abs=0.1)
    # Measured once, on 40,000 episodes of another seed.
    assert scores(task, task.oracle_player(), 4000).mean() == pytest.approx(480, abs=7)
    assert scores(task, Walker(rng()), 4000).mean() == pytest.approx(69.4, abs=2)


def test_a_small_maze_by_hand():
    # The centre and eight places around it, all free: the reward is at one of the four that are one
    # step away, or of the four that are two.
    task = make_task("PlasticMaze-v0", size=5, episode_length=1)
    assert task.optimal_score == pytest.approx(10 * 4 / 8)
    assert task.random_score == pytest.approx(10 * 4 / 8 / 4)
    task = make_task("PlasticMaze-v0", size=5, episode_length=1, wall_penalty=2)
    assert_mean(scores(task, RandomPlayer(task.action_space, rng()), 20_000), 10 / 8)


def test_the_maze_is_that_of_the_paper():
    task = make_task("PlasticMaze-v0")
    walls = np.array([[sign == "#" for sign in row] for row in MAZE])
    np.testing.assert_array_equal(task.grid.walls.reshape(9, 9), walls)
    assert task.grid.centre == 4 * 9 + 4
    eleven = make_task("PlasticMaze-v0", size=11).grid.walls.reshape(11, 11)
    assert eleven[2:-2:2, 2:-2:2].all()
    assert not eleven[5, 5]
    assert eleven.sum() == 40 + 16


def test_walking_equals_a_literal_walk():
    task = make_task("PlasticMaze-v0", episode_length=400, wall_penalty=0.25)
    state = task.sample_states(20, seed=0)
    actions = rng().integers(4, size=(20, 400))
    steps = {0: (-1, 0), 1: (1, 0), 2: (0, -1), 3: (0, 1)}
    places = [divmod(int(p), 9) for p in state.position]
    assert set(places) == {(4, 4)}
    visits = np.zeros(20, int)
    for t in range(400):
        views = task.observe(state, t)
        before = state
        state, rewards, infos = task.step(state, t, actions[:, t])
        for k in range(20):
            row, column = places[k]
            view = [MAZE[row + i][column + j] == "#" for i in (-1, 0, 1) for j in (-1, 0, 1)]
            np.testing.assert_array_equal(views[k, :9], view)
            down, right = steps[actions[k, t]]
            reward = 0.0
            if MAZE[row + down][column + right] == "#":
                reward -= 0.25
            else:
                row, column = row + down, column + right
            assert infos["position"][k] == 9 * row + column
            reached = 9 * row + column == state.goal[k]
            assert infos["reached"][k] == reached
            if reached:
                reward += 10
                row, column = divmod(int(before.destinations[k, visits[k]]), 9)
                visits[k] += 1
            assert rewards[k] == reward
            places[k] = row, column
            assert state.position[k] == 9 * row + column
        np.testing.assert_array_equal(state.visits, visits)
    assert visits.sum() > 10


def test_goals_and_destinations_are_uniform_over_what_is_allowed():
    task = make_task("PlasticMaze-v0", size=7, episode_length=20)
    state = task.sample_states(20_000, seed=1)
    free = set(task.grid.free.tolist())
    goals, counts = np.unique(state.goal, return_counts=True)
    assert set(goals) == free - {task.grid.centre}
    assert (abs(counts - counts.mean()) < 5 * np.sqrt(counts.mean())).all()
    for goal in goals[:4]:
        places, counts = np.unique(state.destinations[state.goal == goal], return_counts=True)
        assert set(places) == free - {goal}
        assert (abs(counts - counts.mean()) < 5 * np.sqrt(counts.mean())).all()


def test_distances_are_those_of_a_search():
    from plastic_envs.tasks.interactive.maze import _ways

    distance, towards = _ways(9)
    task = make_task("PlasticMaze-v0")
    grid = task.grid
    for start in grid.free[::5]:
        found, border, steps = {int(start): 0}, [int(start)], 0
        while border:
            steps += 1
            ahead = {int(n) for place in border for n in grid.next[place] if not grid.walls[n]}
            border = [place for place in ahead if place not in found]
            found |= dict.fromkeys(border, steps)
        assert {int(p): int(distance[start, p]) for p in grid.free} == found
        for goal in set(found) - {int(start)}:
            assert distance[grid.next[start, towards[start, goal]], goal] == found[goal] - 1


def test_measures_of_the_maze():
    task = make_task("PlasticMaze-v0")
    rewards = np.zeros((1, 250))
    rewards[0, :4] = [10, -0.1, 10, 0]
    measured = task.measures(rewards, np.ones((1, 250), np.bool_))
    assert measured["score"] == pytest.approx([19.9])
    assert measured["visits"] == [2]
