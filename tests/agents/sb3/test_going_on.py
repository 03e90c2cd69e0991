"""However training was left, the memory is that of the observation which comes next."""

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnvWrapper

from agents.sb3 import RecurrentPPO, VectorEnvAdapter
from agents.tree import leaves, map_tree

STEPS = 24


class Watch(BaseCallback):
    """Notes what each environment showed since its episode began; then stops or raises."""

    def __init__(self, last=None, error=None):
        super().__init__()
        self.last, self.error = last, error
        self.seen, self.counted = [[] for _ in range(4)], 0

    def _on_rollout_start(self):
        """Compare the memory with that of an agent which saw all this, and nothing else."""
        model = self.model
        starts = model._last_episode_starts
        for k, seen in enumerate(self.seen):
            if not starts[k]:
                expected = model.policy.initial_state(1)
                for observation in seen:
                    x = torch.as_tensor(observation[None])
                    _, _, _, expected = model.policy(x, expected, torch.zeros(1) > 0)
                actual = map_tree(lambda leaf, k=k: leaf[k : k + 1], model._last_state)
                pairs = zip(leaves(actual), leaves(expected), strict=True)
                assert all(torch.allclose(*pair, rtol=1e-3, atol=1e-5) for pair in pairs)
                self.counted += 1
        if self.new_obs is not None:
            np.testing.assert_array_equal(model._last_obs, self.new_obs)

    new_obs = None

    def _on_step(self):
        for k, seen in enumerate(self.seen):
            if self.locals["starts"][k]:
                seen.clear()
            seen.append(self.locals["obs"][k].copy())
        self.new_obs = self.locals["new_obs"].copy()
        if self.n_calls == self.last:
            if self.error is not None:
                raise self.error
            return False
        return True


def make_frozen(make_model, policy, **kwargs):
    """Return a model that does not learn, so that a memory can be computed again."""
    return make_model(policy, learning_rate=0.0, n_epochs=1, **kwargs)


ENDS = [(last, None) for last in (1, 7, STEPS - 1, STEPS, STEPS + 1)]
ENDS += [(7, RuntimeError("no")), (STEPS, KeyboardInterrupt())]


@pytest.mark.parametrize(("last", "error"), ENDS, ids=str)
def test_after_a_callback_that_ends_training(make_model, some_memory, last, error):
    model = make_frozen(make_model, some_memory)
    watch = Watch(last, error)
    if error is None:
        model.learn(10_000, callback=watch)
    else:
        with pytest.raises(type(error)):
            model.learn(10_000, callback=watch)
    assert model.num_timesteps == 4 * last
    episodes = len(model.ep_info_buffer)
    watch.last = None
    model.learn(2 * 4 * STEPS, callback=watch, reset_num_timesteps=False)
    assert watch.counted > 3
    assert model.num_timesteps == 4 * (last + 2 * STEPS)
    assert len(model.ep_info_buffer) > episodes


def test_no_episode_is_lost_to_the_statistics(make_model):
    model, ends = make_model({"core": "mlp"}), []

    def stop(local, _):
        ends.append(int(local["dones"].sum()))
        return len(ends) < 11

    model.learn(1_000, callback=stop)
    assert len(model.ep_info_buffer) == sum(ends) > 0


class Failing(VecEnvWrapper):
    """Fails in its n-th step, after or before the environments took it."""

    def __init__(self, venv, number, error, after):
        super().__init__(venv)
        self.left, self.error, self.after, self.resets = number, error, after, 0

    def reset(self):
        self.resets += 1
        return self.venv.reset()

    def step_wait(self):
        self.left -= 1
        results = self.venv.step_wait() if self.left or self.after else None
        if not self.left:
            raise self.error
        return results


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()], ids=str)
@pytest.mark.parametrize("number", [1, 5, STEPS])
def test_after_an_environment_that_failed(make_model, make_wander, number, error, after):
    env = Failing(VectorEnvAdapter(make_wander()), number, error, after)
    model = make_frozen(make_model, {"core": "gru"}, env=env)
    with pytest.raises(type(error)):
        model.learn(1_000, callback=Watch())
    assert env.resets == 1
    watch = Watch()
    model.learn(4 * STEPS, callback=watch, reset_num_timesteps=False)
    assert env.resets == 2
    assert model.rollout_buffer.episode_starts[0].all()
    assert not any(leaf.any() for leaf in leaves(model.rollout_buffer.initial_state))


def test_learning_again_starts_again_or_goes_on(make_model, some_memory):
    model, watch = make_frozen(make_model, some_memory), Watch()
    model.learn(4 * STEPS, callback=watch)
    model.learn(4 * STEPS, callback=watch, reset_num_timesteps=False)
    assert watch.counted > 0
    assert not model.rollout_buffer.episode_starts[0].all()
    model.learn(4 * STEPS)
    assert model.rollout_buffer.episode_starts[0].all()
    assert not any(leaf.any() for leaf in leaves(model.rollout_buffer.initial_state))
    assert model.num_timesteps == 4 * STEPS


def test_another_environment_starts_without_a_memory(make_model, make_wander, some_memory):
    model = make_frozen(make_model, some_memory).learn(4 * STEPS)
    model.set_env(make_wander())
    model.learn(4 * STEPS, reset_num_timesteps=False)
    assert model.rollout_buffer.episode_starts[0].all()
    assert not any(leaf.any() for leaf in leaves(model.rollout_buffer.initial_state))


@pytest.mark.parametrize("num_envs", [4, 6])
@pytest.mark.parametrize("force_reset", [True, False])
def test_a_loaded_model_starts_new_episodes(
    make_model, make_wander, some_memory, tmp_path, num_envs, force_reset
):
    model = make_frozen(make_model, some_memory).learn(4 * STEPS)
    model.save(tmp_path / "model")
    env = make_wander(num_envs)
    loaded = RecurrentPPO.load(tmp_path / "model", env=env, force_reset=force_reset)
    loaded.learn(num_envs * STEPS, reset_num_timesteps=False)
    assert loaded.rollout_buffer.episode_starts[0].all()
    assert not any(leaf.any() for leaf in leaves(loaded.rollout_buffer.initial_state))
    assert loaded.num_timesteps == (4 + num_envs) * STEPS
    without = RecurrentPPO.load(tmp_path / "model")
    with pytest.raises(ValueError, match="no environment"):
        without.learn(100)


def test_a_memory_that_broke_does_not_outlive_its_episode(make_model, some_memory):
    model = make_model(some_memory).learn(4 * STEPS)
    model._last_state = map_tree(lambda leaf: leaf * torch.nan, model._last_state)
    model.learn(4 * STEPS)
    assert np.isfinite(model.rollout_buffer.values).all()


class Rewarding(VecEnvWrapper):
    """Gives a reward of a kind in every step."""

    def __init__(self, venv, reward):
        super().__init__(venv)
        self.reward = reward

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        obs, rewards, dones, infos = self.venv.step_wait()
        return obs, np.full_like(rewards, self.reward), dones, infos


@pytest.mark.parametrize("reward", [np.nan, np.inf])
def test_rewards_that_are_no_numbers_are_told_where_they_come_from(make_model, make_wander, reward):
    model = make_model({"core": "mlp"}, env=Rewarding(VectorEnvAdapter(make_wander()), reward))
    with pytest.raises(ValueError, match=r"rewards of the environment must be finite numbers, got"):
        model.learn(1_000)
    assert model.num_timesteps == 0


class Spoiling(VecEnvWrapper):
    """Shows one environment what is no number, in the third step."""

    def __init__(self, venv):
        super().__init__(venv)
        self.steps = 0

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        obs, rewards, dones, infos = self.venv.step_wait()
        self.steps += 1
        if self.steps == 3:
            obs[1] = np.nan
        return obs, rewards, dones, infos


def test_observations_that_are_no_numbers_are_told_where_they_come_from(make_model, make_wander):
    model = make_model(env=Spoiling(VectorEnvAdapter(make_wander())))
    with pytest.raises(ValueError, match=r"observations of the environment must be finite.* 8 ste"):
        model.learn(1_000)
    assert model.learn(96).num_timesteps == 96  # in new episodes
