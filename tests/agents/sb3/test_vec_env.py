"""The adapter shows Stable-Baselines3 what its own `DummyVecEnv` would show."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

import plastic_envs
from agents.sb3.vec_env import VectorEnvAdapter

MODES = list(AutoresetMode)
LENGTHS = [2, 3, 5, 3]


def run(env, steps=12):
    """Return everything that an environment shows, times left out."""
    seen = [env.reset()]
    seen.append([dict(info) for info in env.reset_infos])
    for _ in range(steps):
        observations, rewards, dones, infos = env.step(np.zeros((env.num_envs, 1), np.float32))
        for info in infos:
            if "episode" in info:
                info["episode"].pop("t")
        seen += [observations.copy(), rewards, dones, infos]
        seen.append([dict(info) for info in env.reset_infos])
    return seen


def same(left, right):
    assert type(left) is type(right)
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for name in left:
            same(left[name], right[name])
    elif isinstance(left, list):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            same(a, b)
    elif isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    else:
        assert left == right


def plain(value):
    """Turn NumPy scalars into Python's, as infos of a vector environment hold the former."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


@pytest.mark.parametrize("mode", MODES)
def test_shows_what_dummy_vec_env_shows(make_clock, make_clocks, mode):
    functions = [lambda n=n, k=k: Monitor(make_clock(n, k)) for k, n in enumerate(LENGTHS)]
    reference, adapter = DummyVecEnv(functions), VectorEnvAdapter(make_clocks(LENGTHS, mode))
    reference.seed(7)
    adapter.seed(7)
    same(plain(run(adapter)), plain(run(reference)))


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("lengths", [[3, 3], [2, 3]])
def test_native_environment(make_clock, make_clocks, mode, lengths):
    functions = [lambda n=n, k=k: Monitor(make_clock(n, k)) for k, n in enumerate(lengths)]
    reference = DummyVecEnv(functions)
    env = make_clocks(lengths, mode, native=True)
    adapter = VectorEnvAdapter(env)
    reference.seed(0)
    adapter.seed(0)
    if mode is AutoresetMode.NEXT_STEP and lengths[0] != lengths[1]:
        with pytest.raises(RuntimeError, match="SAME_STEP"):
            run(adapter)
        return
    left, right = run(adapter), run(reference)
    for a, b in zip(left, right, strict=True):
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
        elif a and "time" in a[0]:  # infos of a step; this environment gives none when it resets
            same(plain(a), plain(b))


@pytest.mark.parametrize("env_id", plastic_envs.ids())
def test_own_environments_show_the_same_in_both_modes(env_id):
    envs = [
        VectorEnvAdapter(gym.make_vec(env_id, num_envs=3, autoreset_mode=mode))
        for mode in ("NextStep", "SameStep")
    ]
    space = envs[0].action_space
    space.seed(0)
    for env in envs:
        env.seed(5)
    same(*(env.reset() for env in envs))
    ended = []
    while len(ended) < 6:
        actions = np.stack([space.sample() for _ in range(3)])
        (seen, *results), (other, *others) = (env.step(actions) for env in envs)
        same(seen, other)
        np.testing.assert_array_equal(results[:2], others[:2])
        for k in np.flatnonzero(results[1]):
            last, other_last = (r[2][k]["terminal_observation"] for r in (results, others))
            same(last, other_last)
            assert envs[0].observation_space.contains(last)
            ended.append(results[2][k]["episode"]["l"])
    for env in envs:
        env.close()


def test_seed_is_used_once_and_repeats():
    env = VectorEnvAdapter(gym.make_vec("PlasticCueReward-v0", num_envs=3))
    env.seed(3)
    first, second = env.reset(), env.reset()
    env.seed(3)
    np.testing.assert_array_equal(env.reset(), first)
    assert not np.array_equal(first, second)


def test_return_and_length_as_monitor(make_clocks):
    env = VectorEnvAdapter(make_clocks([3, 2], AutoresetMode.SAME_STEP))
    env.reset()
    for _ in range(3):
        _, _, _, infos = env.step(np.zeros((2, 1)))
    episode = infos[0]["episode"]
    assert (episode["r"], episode["l"]) == (6.0, 3)
    assert episode["t"] >= 0
    env.reset()  # forgets the episodes under way
    for _ in range(3):
        _, _, _, infos = env.step(np.zeros((2, 1)))
    assert infos[0]["episode"]["l"] == 3


def test_options_reach_the_environment(make_clocks):
    env = VectorEnvAdapter(make_clocks([2, 2], AutoresetMode.SAME_STEP))
    env.set_options({"level": 4})
    env.reset()
    assert env.reset_infos[1]["options"] == {"level": 4}
    env.reset()
    assert env.reset_infos[1]["options"] is None
    env.set_options([{"level": 4}, {}])
    with pytest.raises(ValueError, match="same options"):
        env.reset()


def test_attributes_and_methods_of_sub_environments(make_clocks):
    env = VectorEnvAdapter(make_clocks(LENGTHS, AutoresetMode.SAME_STEP))
    assert env.get_attr("length") == LENGTHS
    assert env.get_attr("length", [2, 0]) == [5, 2]
    env.set_attr("length", 9, indices=1)
    assert env.get_attr("length") == [2, 9, 5, 3]
    env.set_attr("length", 4)
    assert env.get_attr("length") == [4] * 4
    assert env.env_method("place", 10, indices=[3, 1]) == [13, 11]
    assert env.has_attr("number")
    assert not env.has_attr("colour")
    assert env.env_is_wrapped(Monitor) == [True] * 4
    assert env.env_is_wrapped(gym.wrappers.TimeLimit) == [False] * 4


def test_attributes_and_methods_of_a_native_environment(make_clocks):
    env = VectorEnvAdapter(make_clocks(LENGTHS, AutoresetMode.SAME_STEP, native=True))
    assert env.get_attr("colour", [0, 1]) == ["blue", "blue"]
    env.set_attr("colour", "red")
    assert env.get_attr("colour") == ["red"] * 4
    assert env.env_method("places") == [0, 1, 2, 3]
    with pytest.raises(NotImplementedError, match="one object"):
        env.set_attr("colour", "green", indices=[0])
    with pytest.raises(NotImplementedError, match="one object"):
        env.env_method("places", indices=[0])
    with pytest.raises(NotImplementedError, match="one result for each"):
        env.env_method("number_of_steps")
    with pytest.raises(AttributeError, match="no attribute 'size'"):
        env.get_attr("size")


def test_arrays_without_axes_are_no_row_of_results(make_clocks):
    env = make_clocks(LENGTHS, AutoresetMode.SAME_STEP, native=True)
    env.places = lambda: np.array(4)
    with pytest.raises(NotImplementedError, match="one result for each"):
        VectorEnvAdapter(env).env_method("places")
    reset = env.reset
    env.reset = lambda **given: (reset(**given)[0], {"seen": np.array(4)})
    adapter = VectorEnvAdapter(env)
    adapter.reset()
    assert [info["seen"] for info in adapter.reset_infos] == [4] * 4


def test_wrapped_sub_environments():
    envs = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
    env = VectorEnvAdapter(envs)
    assert env.env_is_wrapped(gym.wrappers.TimeLimit) == [True, True]


def test_vector_wrappers_without_state_keep_the_partial_reset():
    envs = gym.make_vec("CartPole-v1", num_envs=3, vectorization_mode="sync")
    double = gym.wrappers.vector.TransformReward(envs, lambda rewards: 2 * rewards)
    env = VectorEnvAdapter(double)
    env.seed(0)
    env.reset()
    ended = set()
    for _ in range(80):
        _, rewards, dones, infos = env.step(np.array([0, 1, 0]))
        assert (rewards == 2).all()
        for k in np.flatnonzero(dones):
            assert infos[k]["episode"]["r"] == 2 * infos[k]["episode"]["l"]
            ended.add(int(k))
    assert ended == {0, 1, 2}


def test_other_vector_wrappers_do_not_get_a_partial_reset():
    envs = gym.make_vec("CartPole-v1", num_envs=3, vectorization_mode="sync")
    env = VectorEnvAdapter(gym.wrappers.vector.RecordEpisodeStatistics(envs))
    env.reset()
    with pytest.raises(RuntimeError, match="SAME_STEP"):  # noqa: PT012
        for _ in range(80):
            env.step(np.array([0, 1, 0]))


def test_terminal_observation_is_a_copy(make_clocks):
    """A `SyncVectorEnv` with copy=False writes into the same array again."""
    envs = make_clocks([2, 3], AutoresetMode.NEXT_STEP)
    envs.copy = False
    env = VectorEnvAdapter(envs)
    env.reset()
    env.step(np.zeros((2, 1)))
    observations, _, _, infos = env.step(np.zeros((2, 1)))
    assert infos[0]["terminal_observation"][1] == 2
    assert observations[0, 1] == 0


def test_pictures():
    env = VectorEnvAdapter(gym.make_vec("PlasticCopy-v0", num_envs=4, render_mode="rgb_array"))
    env.reset()
    images = env.get_images()
    assert len(images) == 4
    tiled = env.render()
    assert tiled.shape[0] == 2 * images[0].shape[0]
    blind = VectorEnvAdapter(gym.make_vec("PlasticCopy-v0", num_envs=2))
    with pytest.warns(UserWarning, match="rgb_array"):
        assert blind.get_images() == [None, None]


def test_refuses_what_is_no_vector_environment(make_clock, make_clocks):
    with pytest.raises(ValueError, match="VectorEnv"):
        VectorEnvAdapter(make_clock())
    env = make_clocks([2], AutoresetMode.SAME_STEP, native=True)
    env.metadata = {}
    with pytest.raises(ValueError, match="autoreset_mode"):
        VectorEnvAdapter(env)


@pytest.mark.parametrize("wrap", [lambda env: env, VecNormalize])
def test_stable_baselines_learns_on_it(wrap):
    envs = gym.make_vec(
        "CartPole-v1",
        num_envs=4,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
    )
    env = wrap(VectorEnvAdapter(envs))
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=2, seed=0, device="cpu")
    model.learn(512)
    assert model.ep_info_buffer
    mean, _ = evaluate_policy(model, env, n_eval_episodes=4)  # no warning: statistics are there
    assert mean > 1


def test_vec_monitor_agrees(make_clocks):
    inner = VectorEnvAdapter(make_clocks([3, 2], AutoresetMode.SAME_STEP))
    with pytest.warns(UserWarning, match="already wrapped"):
        env = VecMonitor(inner)
    env.reset()
    for _ in range(3):
        _, _, _, infos = env.step(np.zeros((2, 1)))
    assert infos[0]["episode"]["r"] == 6


@pytest.mark.parametrize("mode", AutoresetMode)
def test_infos_that_are_a_list_already(mode):
    def make(wrapper):
        envs = gym.make_vec("PlasticBandit-v0", num_envs=2, num_trials=3, autoreset_mode=mode)
        return VectorEnvAdapter(wrapper(envs))

    adapters = make(DictInfoToList), make(lambda env: env)
    for env in adapters:
        env.seed(0)
        env.reset()
    for _ in range(7):
        infos, others = (env.step(np.zeros(2, np.int64))[3] for env in adapters)
        for info in (*infos, *others):
            info.pop("episode", None)  # with the time
        assert repr(infos) == repr(others)
