"""The memory card game: its rules, and how well it can be played."""

import gymnasium as gym
import numpy as np
import pytest

import plastic_envs  # noqa: F401
from plastic_envs.tasks.interactive.concentration import NONE, Concentration
from plastic_envs.tasks.players import Player, RandomPlayer


def assert_mean(values, expected):
    assert values.mean() == pytest.approx(expected, abs=5 * values.std() / np.sqrt(len(values)))


class Guesser(Player):
    """Turns any card that lies face down."""

    def __init__(self):
        self._rng = np.random.default_rng(1)

    def act(self, observations, state):
        down = ~state.gone & (np.arange(state.gone.shape[1]) != state.open[:, None])
        return np.where(down, self._rng.random(down.shape), -1).argmax(axis=1)


class Plan(Player):
    """Turns cards in a given order, in one game."""

    def __init__(self, cards):
        self._cards = iter(cards)

    def act(self, observations, state):
        return np.array([next(self._cards)])


def turned(task, player, num_episodes=1500):
    return task.play(player, num_episodes, seed=0).measures["score"]


@pytest.mark.parametrize(
    ("num_pairs", "optimum"), [(1, 2), (2, 16 / 3), (3, 26 / 3), (4, 11.847619)]
)
def test_perfect_memory_plays_as_well_as_can_be(num_pairs, optimum):
    task = Concentration(num_pairs=num_pairs)
    assert task.optimal_score == pytest.approx(optimum)
    assert_mean(turned(task, task.oracle_player()), optimum)


def test_the_optimum_of_two_pairs_is_that_of_all_ways_to_play():
    # First an unknown card. Its other one is the second in a third of the games; else two cards of
    # different pairs are known, and the next unknown one completes one of them: two and two more.
    assert Concentration().optimal_score == pytest.approx(2 + 1 / 3 * 2 + 2 / 3 * (2 + 2))


@pytest.mark.parametrize("num_pairs", [2, 3])
def test_players_without_memory_score_what_is_said(num_pairs):
    long = Concentration(num_pairs=num_pairs, episode_length=200)
    assert long.chance_score == pytest.approx(2 * num_pairs**2, rel=1e-4)
    short = Concentration(num_pairs=num_pairs, episode_length=14)
    for task in (long, short):
        assert_mean(turned(task, Guesser()), task.chance_score)
        player = RandomPlayer(task.action_space, np.random.default_rng(2))
        assert_mean(turned(task, player), task.random_score)
        assert task.optimal_score < task.chance_score < task.random_score


def test_the_best_return_is_that_of_the_paper():
    task = Concentration()
    played = task.play(task.oracle_player(), 1500, seed=3)
    assert_mean(played.measures["return"], 50 - 0.5 * 16 / 3)
    low, high = task.reward_bounds
    assert (played.rewards.min(), played.rewards.max()) == (low, high) == (-0.5, 24.5)


def test_a_game_by_hand():
    task = Concentration(picture_size=3)
    state = task.sample_states(1, seed=0)
    a, c = (np.flatnonzero(state.cards[0] == k)[0] for k in (0, 1))
    b, d = (np.flatnonzero(state.cards[0] == k)[1] for k in (0, 1))
    plan = [a, c, a, a, b, a, c, d, 0]
    pairs = [step in (4, 7) for step in range(9)]
    opened = [a, NONE, a, a, NONE, NONE, c, NONE, NONE]
    seen = [0, 1, 0, 0, 0, NONE, 1, 1, 1]
    for step, card in enumerate(plan):
        before = state
        copies = [part.copy() for part in before]
        state, rewards, infos = task.step(before, step, np.array([card]))
        assert all((x == y).all() for x, y in zip(before, copies, strict=True))
        assert rewards[0] == (0 if step == 8 else 24.5 if pairs[step] else -0.5)
        assert (infos["scored"][0], infos["pair"][0]) == (step < 8, pairs[step])
        assert (state.open[0], state.seen[0]) == (opened[step], seen[step])
        observation = task.observe(state, step + 1)[0]
        flags, last, picture = np.split(observation, [12, 16])
        assert flags.reshape(4, 3).argmax(1).tolist() == [
            2 if state.gone[0, k] else int(k == state.open[0]) for k in range(4)
        ]
        assert last.argmax() == (d if step == 8 else card)
        shown = 0 if seen[step] == NONE else state.pictures[0, seen[step]]
        np.testing.assert_array_equal(picture, shown)
    assert not task.observe(task.sample_states(1, seed=0), 0)[0, 12:].any()


def test_every_arrangement_is_equally_likely():
    cards = Concentration().sample_states(6000, seed=4).cards
    kinds, counts = np.unique(cards, axis=0, return_counts=True)
    assert len(kinds) == 6
    assert (abs(counts - 1000) < 5 * np.sqrt(1000 * 5 / 6)).all()


def test_a_game_that_is_not_over_counts_all_steps():
    task = Concentration()
    assert (turned(task, Plan([0] * 40), 1) == 40).all()


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"num_pairs": 33}, r"^num_pairs must be at most 32, got 33"),
        ({"num_pairs": 4, "episode_length": 15}, r"^episode_length must be .* at least 16, got 15"),
        ({"turn_cost": -1}, r"^turn_cost must be"),
        ({"pair_reward": float("nan")}, r"^pair_reward must be"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_name(kwargs, error):
    with pytest.raises(ValueError, match=error):
        Concentration(**kwargs)


def test_the_text_of_a_game():
    env = gym.make("PlasticConcentration-v0", render_mode="ansi").unwrapped
    env.reset(seed=5)
    cards = env._start.cards[0]
    first, second = np.flatnonzero(cards == cards[0])
    other = int(np.flatnonzero(cards != cards[0])[0])
    for card in (first, second, other):
        env.step(card)
    head, names, *lines, last = env.render().splitlines()
    assert head.split() == [
        "·" if k in (first, second) else f"[{cards[k]}]" if k == other else f"({cards[k]})"
        for k in range(4)
    ]
    assert names.split() == ["step", "card", "picture", "pair", "reward"]
    assert [line.split() for line in lines] == [
        ["0", str(first), str(cards[first]), "·", "-0.50"],
        ["1", str(second), str(cards[second]), "*", "24.50"],
        ["2", str(other), str(cards[other]), "·", "-0.50"],
    ]
    assert last == "return 23.500 after 3 of 40 steps"
