import copy

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from plastic_envs.wrappers import (
    History,
    PreviousActionReward,
    VectorHistory,
    VectorPreviousActionReward,
)

PAIRS = {PreviousActionReward: VectorPreviousActionReward, History: VectorHistory}
WORLDS = ["PlasticBandit-v0", "PlasticMaze-v0", "PlasticTargetSearch-v0"]
both_modes = pytest.mark.parametrize(
    "mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP], ids=["next", "same"]
)


class Clock(gym.Env):
    """Shows [episode, step]; ends after `length` steps, by time if that is odd."""

    def __init__(self, length=3, actions=None, form="box"):
        box = spaces.Box(-1, 1000, (2,), np.float32)
        image = spaces.Box(0, 255, (4, 3, 1), np.uint8)
        self.form = form
        self.observation_space = {
            "box": box,
            "image": image,
            "dict": spaces.Dict(time=box, image=image),
            "discrete": spaces.Discrete(5),
            "dict of discrete": spaces.Dict(time=spaces.Discrete(5)),
        }[form]
        self.action_space = spaces.Discrete(3) if actions is None else actions
        self.length, self.episode = length, -1

    def _observation(self):
        box = np.array([self.episode, self.time], np.float32)
        image = np.full((4, 3, 1), 10 * self.episode + self.time, np.uint8)
        both = {"time": box, "image": image}
        return {"box": box, "image": image, "dict": both, "discrete": 0}[self.form]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.time = 0 if seed is not None else self.episode + 1, 0
        return self._observation(), {}

    def step(self, action):
        self.time += 1
        over = self.time == self.length
        by_time = over and self.length % 2 == 1
        return self._observation(), 0.5 + self.time, over and not by_time, by_time, {"t": self.time}


def clocks(mode, lengths, **kwargs):
    return SyncVectorEnv([lambda n=n: Clock(n, **kwargs) for n in lengths], autoreset_mode=mode)


def same(a, b):
    return data_equivalence(a, b, exact=True)


def entry(observations, k):
    if isinstance(observations, dict):
        return {name: entry(part, k) for name, part in observations.items()}
    return observations[k]


# --- both wrappers


@both_modes
@pytest.mark.parametrize("form", ["box", "image", "dict"])
@pytest.mark.parametrize("wrapper", PAIRS)
def test_a_sub_environment_shows_what_a_single_one_does(wrapper, form, mode):
    lengths = (3, 4, 1)
    arguments = {"max_steps": 3} if wrapper is History else {}  # it overflows
    envs = PAIRS[wrapper](clocks(mode, lengths, form=form), **arguments)
    singles = [wrapper(Clock(n, form=form), **arguments) for n in lengths]
    assert envs.single_observation_space == singles[0].observation_space
    actions = np.random.default_rng(0).integers(3, size=(14, 3))
    observations, _ = envs.reset(seed=0)
    for k, single in enumerate(singles):
        assert same(entry(observations, k), single.reset(seed=0)[0])
    ended = np.zeros(3, bool)
    for row in actions:
        observations, rewards, terminated, truncated, infos = envs.step(row)
        assert envs.observation_space.contains(observations)
        for k, single in enumerate(singles):
            if mode is AutoresetMode.NEXT_STEP and ended[k]:
                assert same(entry(observations, k), single.reset()[0])
                continue
            seen, reward, *ends, _ = single.step(row[k])
            assert reward == rewards[k]
            assert ends == [terminated[k], truncated[k]]
            if any(ends) and mode is AutoresetMode.SAME_STEP:
                assert same(infos["final_obs"][k], seen)
                seen, _ = single.reset()
            assert same(entry(observations, k), seen)
            assert single.observation_space.contains(seen)
        ended = terminated | truncated


@both_modes
@pytest.mark.parametrize("env_id", WORLDS)
@pytest.mark.parametrize("wrapper", PAIRS)
def test_our_own_vector_environments_show_what_single_ones_do(wrapper, env_id, mode):
    env = wrapper(gym.make(env_id))
    envs = PAIRS[wrapper](gym.make_vec(env_id, num_envs=1, autoreset_mode=mode))
    assert envs.single_observation_space == env.observation_space
    theirs = PAIRS[wrapper](SyncVectorEnv([lambda: gym.make(env_id)], autoreset_mode=mode))
    assert theirs.single_observation_space == env.observation_space
    observations, _ = envs.reset(seed=1)
    assert same(entry(observations, 0), env.reset(seed=1)[0])
    assert same(observations, theirs.reset(seed=1)[0])
    rng = np.random.default_rng(0)
    done = False
    for _ in range(env.unwrapped.task.num_steps + 4):
        actions = rng.integers(2, size=1)
        observations, *_, infos = envs.step(actions)
        assert same(observations, theirs.step(actions)[0])
        if done and mode is AutoresetMode.NEXT_STEP:
            seen, done = env.reset()[0], False
        else:
            seen, _, done, *_ = env.step(actions[0])
            if done and mode is AutoresetMode.SAME_STEP:
                assert same(infos["final_obs"][0], seen)
                seen = env.reset()[0]
        assert same(entry(observations, 0), seen)


@pytest.mark.parametrize("form", ["box", "dict"])
@pytest.mark.parametrize("wrapper", PAIRS)
def test_a_partial_reset_starts_only_what_it_names(wrapper, form):
    arguments = {"max_steps": 5} if wrapper is History else {}
    envs = PAIRS[wrapper](clocks(AutoresetMode.DISABLED, (2, 4), form=form), **arguments)
    singles = [wrapper(Clock(n, form=form), **arguments) for n in (2, 4)]
    envs.reset(seed=0)
    for single in singles:
        single.reset(seed=0)
    for _ in range(2):
        seen = envs.step(np.array([1, 2]))[0]
        others = [single.step(action)[0] for single, action in zip(singles, (1, 2), strict=True)]
    assert all(same(entry(seen, k), others[k]) for k in range(2))
    seen, _ = envs.reset(options={"reset_mask": np.array([True, False])})
    others[0] = singles[0].reset()[0]
    assert all(same(entry(seen, k), others[k]) for k in range(2))
    seen = envs.step(np.array([0, 0]))[0]
    assert all(same(entry(seen, k), singles[k].step(0)[0]) for k in range(2))


@pytest.mark.parametrize("wrapper", PAIRS)
def test_a_reset_in_mid_episode_forgets(wrapper):
    arguments = {"max_steps": 5} if wrapper is History else {}
    for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
        envs = PAIRS[wrapper](clocks(mode, (2, 5)), **arguments)
        for steps in (1, 2):  # the second time an episode ends just before
            first, _ = envs.reset(seed=0)
            for _ in range(steps):
                envs.step(np.array([1, 2]))
            assert same(envs.reset(seed=0)[0], first)
            after = envs.step(np.array([1, 2]))[0]
            fresh = PAIRS[wrapper](clocks(mode, (2, 5)), **arguments)
            fresh.reset(seed=0)
            assert same(fresh.step(np.array([1, 2]))[0], after)


@pytest.mark.parametrize("form", ["box", "dict", "image"])
@pytest.mark.parametrize("wrapper", PAIRS)
def test_what_was_returned_is_the_callers_own(wrapper, form):
    def scribble(value):
        for part in value.values() if isinstance(value, dict) else [value]:
            part[...] = 77

    arguments = {"max_steps": 5} if wrapper is History else {}
    clean, dirty = (wrapper(Clock(4, form=form), **arguments) for _ in range(2))
    kept = clean.reset(seed=0)[0]
    scribble(dirty.reset(seed=0)[0])
    before = copy.deepcopy(kept)
    for _ in range(4):
        expected, returned = clean.step(1)[0], dirty.step(1)[0]
        assert same(expected, returned)
        scribble(returned)
        assert same(kept, before)
    clean, dirty = (
        PAIRS[wrapper](clocks(AutoresetMode.NEXT_STEP, (2, 3), form=form), **arguments)
        for _ in range(2)
    )
    clean.reset(seed=0)
    scribble(dirty.reset(seed=0)[0])
    for _ in range(6):
        actions = np.array([1, 2])
        expected, returned = clean.step(actions)[0], dirty.step(actions.copy())[0]
        assert same(expected, returned)
        scribble(returned)


@pytest.mark.parametrize("wrapper", PAIRS)
@pytest.mark.parametrize("env_id", WORLDS)
@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
@pytest.mark.filterwarnings("ignore:.*history has an unconventional shape")  # advice
def test_checkers_find_nothing_to_object(env_id, wrapper):
    sb3_checker = pytest.importorskip("stable_baselines3.common.env_checker")
    env = wrapper(gym.make(env_id).unwrapped)
    check_env(env, skip_render_check=True)
    sb3_checker.check_env(env)
    stacked = History(PreviousActionReward(gym.make(env_id).unwrapped))
    check_env(stacked, skip_render_check=True)


@pytest.mark.parametrize("wrapper", PAIRS)
def test_a_wrapped_environment_can_be_made_again_from_its_spec(wrapper):
    env = wrapper(gym.make("PlasticBandit-v0"))
    again = gym.make(env.spec)
    assert again.observation_space == env.observation_space
    assert same(again.reset(seed=0), env.reset(seed=0))


@pytest.mark.parametrize("wrapper", PAIRS)
@pytest.mark.parametrize("form", ["discrete", "dict of discrete"])
def test_observations_of_another_kind_are_refused(wrapper, form):
    arguments = {"max_steps": 3} if wrapper is History else {}
    with pytest.raises(ValueError, match=r"env's observations must be a Box.*FlattenObservation"):
        wrapper(Clock(form=form), **arguments)
    if form == "discrete":
        wrapper(gym.wrappers.FlattenObservation(Clock(form=form)), **arguments).reset()


@pytest.mark.parametrize("wrapper", PAIRS.values())
def test_a_vector_environment_must_tell_how_it_resets(wrapper):
    envs = clocks(AutoresetMode.NEXT_STEP, (2,))
    envs.metadata = {}
    with pytest.raises(ValueError, match="must be a gymnasium AutoresetMode"):
        wrapper(envs)


# --- previous action and reward


def test_an_episode_by_hand():
    env = PreviousActionReward(Clock(3), reward_bounds=(0, 5))
    seen = [env.reset(seed=0)[0], *(env.step(action)[0] for action in (2, 0, 1))]
    expected = [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 1, 1.5],
        [0, 2, 1, 0, 0, 2.5],
        [0, 3, 0, 1, 0, 3.5],
    ]
    np.testing.assert_array_equal(seen, np.array(expected, np.float32), strict=True)
    np.testing.assert_array_equal(env.reset()[0], np.float32([1, 0, 0, 0, 0, 0]))
    assert env.observation_space == spaces.Box(
        np.float32([-1, -1, 0, 0, 0, 0]), np.float32([1000, 1000, 1, 1, 1, 5])
    )


def grid_one_hot(a):
    counts, starts = (2, 3, 4, 5), (7, 0, -2, 1)
    return [
        bit
        for n, start, x in zip(counts, starts, np.ravel(a), strict=True)
        for bit in np.eye(n)[int(x) - start]
    ]


ACTIONS = [
    (spaces.Discrete(3), lambda a: np.eye(3)[a]),
    (spaces.Discrete(3, start=5), lambda a: np.eye(3)[a - 5]),
    (spaces.Discrete(4, start=-2), lambda a: np.eye(4)[a + 2]),
    (spaces.MultiDiscrete([2, 3]), lambda a: [*np.eye(2)[a[0]], *np.eye(3)[a[1]]]),
    (
        spaces.MultiDiscrete([2, 3], start=[4, -1]),
        lambda a: [*np.eye(2)[a[0] - 4], *np.eye(3)[a[1] + 1]],
    ),
    (spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[7, 0], [-2, 1]]), grid_one_hot),
    (spaces.MultiBinary(4), np.asarray),
    (spaces.MultiBinary((2, 3)), np.ravel),
    (spaces.Box(-1, 2, (2, 2), np.float32), np.ravel),
    (spaces.Box(np.float32([0.5]), np.float32([2])), np.ravel),
    (spaces.Box(-np.inf, np.inf, (2,)), np.ravel),
    (spaces.Box(-3, 3, (), np.float64), lambda a: [a]),
    (spaces.Box(-5, 5, (2,), np.int16), np.ravel),
]


@pytest.mark.parametrize(("space", "encoded"), ACTIONS)
def test_every_kind_of_action(space, encoded):
    envs = VectorPreviousActionReward(
        clocks(AutoresetMode.NEXT_STEP, (9, 9), actions=space), reward_bounds=(0, 20)
    )
    single = PreviousActionReward(Clock(9, actions=space), reward_bounds=(0, 20))
    envs.action_space.seed(0)
    envs.reset(seed=0)
    single.reset(seed=0)
    for t in range(1, 9):
        actions = envs.action_space.sample()
        seen = envs.step(actions)[0]
        for k in range(2):
            np.testing.assert_allclose(seen[k], [0, t, *encoded(actions[k]), t + 0.5])
        assert envs.observation_space.contains(seen)
        np.testing.assert_array_equal(single.step(actions[0])[0], seen[0], strict=True)
    assert single.observation_space.contains(single.reset()[0])  # zeros are in the space


@pytest.mark.parametrize(("space", "encoded"), ACTIONS)
def test_any_form_of_an_action(space, encoded):
    space.seed(1)
    for _ in range(5):
        action = space.sample()
        floats = np.asarray(action, np.float64)
        for form in (np.asarray(action), floats, floats.tolist(), np.asarray(action).tolist()):
            single = PreviousActionReward(Clock(9, actions=space))
            envs = VectorPreviousActionReward(
                clocks(AutoresetMode.NEXT_STEP, (9, 9), actions=space)
            )
            for env, given_action in ((single, form), (envs, [form, form])):
                env.reset(seed=0)
                batch = np.asarray(given_action) if env is envs else given_action
                seen = np.atleast_2d(env.step(batch)[0])
                for row in seen:
                    np.testing.assert_allclose(row, [0, 1, *encoded(action), 1.5], rtol=1e-6)


OUTSIDE = [
    (spaces.Discrete(3, start=1), [0, 4, -1, 1.5, np.nan, None, "1", [1, 2]]),
    (spaces.Discrete(3), [3, -1, 2**63]),
    (spaces.MultiDiscrete([2, 3], start=[1, 0]), [[0, 0], [3, 0], [1, 3], [1], [1, 0.5], None]),
    (spaces.MultiBinary(2), [[2, 0], [0, -1], [0.5, 0], [0], ["a", "b"]]),
    (spaces.Box(-1, 1, (2,)), [[np.nan, 0], [0, np.inf], [0], [None, 1], [[0, 1], [2]], 1j]),
]


@pytest.mark.parametrize(("space", "action"), [(s, a) for s, bad in OUTSIDE for a in bad], ids=str)
def test_an_action_outside_its_space_is_refused_and_not_taken(space, action):
    single = PreviousActionReward(Clock(9, actions=space))
    single.reset(seed=0)
    with pytest.raises(ValueError, match="the action must be in"):
        single.step(action)
    assert single.unwrapped.time == 0
    envs = VectorPreviousActionReward(clocks(AutoresetMode.NEXT_STEP, (9, 9), actions=space))
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="the action must be in"):
        envs.step([action, action])
    assert envs.unwrapped.envs[0].unwrapped.time == 0


def test_actions_that_are_ignored_may_be_anything():
    for envs in (
        clocks(AutoresetMode.NEXT_STEP, (1, 3), actions=spaces.Discrete(3, start=2)),
        gym.make_vec("PlasticBandit-v0", num_envs=2, num_trials=1),
    ):
        envs = VectorPreviousActionReward(envs)
        envs.reset(seed=0)
        first = int(envs.single_action_space.start)
        over = envs.step(np.array([first, first]))[2:4]
        wild = np.where(over[0] | over[1], -77, first)
        seen = envs.step(wild)[0]
        assert not seen[0, -2:].any()


def test_far_actions_of_a_box_without_bounds_stay_finite():
    space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    env = PreviousActionReward(Clock(9, actions=space))
    env.reset(seed=0)
    seen = env.step(np.array([-1e300]))[0]
    assert seen[-2] == -np.finfo(np.float32).max
    assert env.observation_space.contains(seen)


@pytest.mark.parametrize(
    "bounds", [(2, 1), (np.nan, 1), (0, np.nan), (), (1,), (0, 1, 2), 3, "01", (True, 2), {0, 1}]
)
def test_bounds_of_the_reward_that_are_none_are_refused(bounds):
    for wrapper, env in (
        (PreviousActionReward, Clock()),
        (VectorPreviousActionReward, clocks(AutoresetMode.NEXT_STEP, (2,))),
    ):
        with pytest.raises(ValueError, match=r"reward_bounds must be a pair of numbers"):
            wrapper(env, reward_bounds=bounds)
    PreviousActionReward(Clock(), reward_bounds=np.array([-np.inf, 3]))


def test_actions_outside_a_box_are_clipped_into_it():
    env = PreviousActionReward(gym.make("PlasticCueReward-v0"))
    env.reset(seed=0)
    seen = env.step(np.float32([3]))[0]
    assert seen[-2] == 1
    assert env.observation_space.contains(seen)


def test_dictionaries_get_entries():
    for form, names in (("dict", {"time", "image"}), ("image", {"observation"})):
        env = PreviousActionReward(Clock(3, form=form))
        assert set(env.observation_space) == names | {"previous_action", "previous_reward"}
        assert not env.reset(seed=0)[0]["previous_action"].any()
        seen = env.step(1)[0]
        np.testing.assert_array_equal(seen["previous_action"], np.float32([0, 1, 0]), strict=True)
        np.testing.assert_array_equal(seen["previous_reward"], np.float32([1.5]), strict=True)
        with pytest.raises(ValueError, match="have an entry 'previous_action' already"):
            PreviousActionReward(env)


def test_rewards_are_bounded_where_the_task_tells_it():
    for env_id, low, high in (("Bandit", 0, 1), ("TargetSearch", -1, 1), ("Maze", -0.1, 10)):
        for make in (gym.make, gym.make_vec):
            env = make(f"Plastic{env_id}-v0")
            single = make is gym.make
            wrapper = PreviousActionReward if single else VectorPreviousActionReward
            space = wrapper(env).observation_space if single else None
            space = space or wrapper(env).single_observation_space
            assert (space.low[-1], space.high[-1]) == (np.float32(low), np.float32(high))
    space = PreviousActionReward(Clock()).observation_space
    assert (space.low[-1], space.high[-1]) == (-np.inf, np.inf)


def test_actions_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="actions must be one of Box, Discrete, MultiDiscrete"):
        PreviousActionReward(Clock(actions=spaces.Tuple([spaces.Discrete(2)])))


# --- history


@settings(max_examples=40, deadline=None, database=None)
@given(length=st.integers(1, 8), max_steps=st.integers(1, 9))
def test_the_history_is_what_was_seen(length, max_steps):
    env, plain = History(Clock(length), max_steps), Clock(length)
    for episode in range(3):
        past = [plain.reset(seed=0 if episode == 0 else None)[0]]
        shown, _ = env.reset(seed=0 if episode == 0 else None)
        for t in range(length + 1):
            newest = past[-max_steps:]
            assert shown["length"] == [len(newest)]
            assert shown["length"].dtype == np.int64
            np.testing.assert_array_equal(shown["history"][: len(newest)], newest)
            assert not shown["history"][len(newest) :].any()
            assert shown["history"].shape == (max_steps, 2)
            if t < length:
                past.append(plain.step(0)[0])
                shown = env.step(0)[0]


def test_a_history_keeps_the_keys_of_dictionaries():
    env = History(Clock(3, form="dict"), max_steps=4)
    assert set(env.observation_space) == {"time", "image", "length"}
    assert env.observation_space["image"] == spaces.Box(0, 255, (4, 4, 3, 1), np.uint8)
    env.reset(seed=0)
    shown = env.step(0)[0]
    np.testing.assert_array_equal(shown["time"], np.float32([[0, 0], [0, 1], [0, 0], [0, 0]]))
    assert shown["image"].dtype == np.uint8
    with pytest.raises(ValueError, match="have an entry 'length' already"):
        History(env, max_steps=2)


def test_how_long_a_history_can_be():
    for env_id, steps in (("PlasticBandit-v0", 100), ("PlasticCopy-v0", 40)):
        space = History(gym.make(env_id)).observation_space
        assert space["history"].shape[0] == space["length"].high[0] == steps + 1
        envs = VectorHistory(gym.make_vec(env_id, num_envs=2))
        assert envs.single_observation_space == space
    assert History(gym.make("CartPole-v1")).observation_space["history"].shape == (501, 4)
    assert History(gym.make("CartPole-v1"), 7).observation_space["history"].shape == (7, 4)
    with pytest.raises(ValueError, match="max_steps must be given"):
        History(Clock())
    for value in (0, -1, 1.5, True, "3"):
        with pytest.raises(ValueError, match="max_steps must be an integer of at least 1"):
            History(Clock(), max_steps=value)


def test_padding_is_in_the_space_even_where_zero_is_not():
    class Away(Clock):
        def __init__(self):
            super().__init__(3)
            self.observation_space = spaces.Box(np.float32([2, -3]), np.float32([5, -1]))

        def _observation(self):
            return np.float32([3, -2])

    env = History(Away(), max_steps=4)
    assert env.observation_space.contains(env.reset(seed=0)[0])
    assert env.observation_space["history"].high[0, 0] == 5
    assert env.observation_space["history"].low[0, 1] == -3
