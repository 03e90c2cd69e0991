"""What is handed out or kept belongs to nobody else: later writes by others do not reach it."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnvWrapper

from agents.sb3 import RecurrentPPO, VectorEnvAdapter
from agents.tree import copied, leaves

LENGTHS = [2, 3, 5, 3]


def overwritten(kept, new):
    """Write new values into arrays that were handed out before, and hand these out again."""
    if isinstance(new, dict):
        kept.setdefault("dict", {})
        return {n: overwritten(kept["dict"].setdefault(n, {}), part) for n, part in new.items()}
    new = np.asarray(new)
    if "array" not in kept or kept["array"].dtype != new.dtype:
        kept["array"] = new.copy()
    kept["array"][...] = new
    return kept["array"]


class Reusing(gym.vector.VectorWrapper):
    """Hands out the same arrays again and again, in mode NEXT_STEP where it must also ignore."""

    def __init__(self, env, as_dict=False):
        super().__init__(env)
        self.kept, self.as_dict = [{} for _ in range(5)], as_dict
        if as_dict:
            self.single_observation_space = spaces.Dict(only=env.single_observation_space)
            self.observation_space = spaces.Dict(only=env.observation_space)

    def _shown(self, observations):
        return {"only": observations} if self.as_dict else observations

    def _infos(self, infos):
        infos = dict(infos)
        if self.as_dict and "final_obs" in infos:
            final = [None if part is None else {"only": part} for part in infos["final_obs"]]
            infos["final_obs"] = np.array(final, object)
        infos["where"] = np.arange(2.0 * self.num_envs).reshape(-1, 2) + self.kept[4].get("t", 0)
        self.kept[4]["t"] = self.kept[4].get("t", 0) + 1
        for name in ("where", "time"):
            if name in infos:
                infos[name] = overwritten(self.kept[4].setdefault(name, {}), infos[name])
        return infos

    def reset(self, *, seed=None, options=None):
        observations, infos = self.env.reset(seed=seed, options=options)
        return overwritten(self.kept[0], self._shown(observations)), self._infos(infos)

    def step(self, actions):
        *results, infos = self.env.step(actions)
        actions *= 0  # and spoils what it was given
        results[0] = self._shown(results[0])
        results[1] = np.asarray(results[1], np.float32)
        results = [overwritten(*pair) for pair in zip(self.kept[:4], results, strict=True)]
        return (*results, self._infos(infos))


def assert_keeps(env, steps=14):
    given, copies = [], []

    def note(*parts):
        given.append(parts)
        copies.append(copy.deepcopy(parts))

    note(env.reset(), list(env.reset_infos))
    actions = np.ones((env.num_envs, 1), np.float32)
    for _ in range(steps):
        note(*env.step(actions), list(env.reset_infos))
    assert (actions == 1).all()
    for one, other in zip(leaves(given), leaves(copies), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_of_a_sync_vector_env_without_copies(make_clocks, mode):
    envs = make_clocks(LENGTHS, mode)
    envs.copy = False
    assert_keeps(VectorEnvAdapter(envs))


@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("native", [False, True])
def test_of_an_environment_that_reuses_everything(make_clocks, mode, native, as_dict):
    env = Reusing(make_clocks(LENGTHS, mode, native), as_dict)
    assert_keeps(VectorEnvAdapter(env, ignored_steps="show"))


class SharedBuffers(VecEnvWrapper):
    """A VecEnv whose arrays change at the next step."""

    def __init__(self, venv):
        super().__init__(venv)
        self.kept = [{} for _ in range(3)]

    def reset(self):
        return overwritten(self.kept[0], self.venv.reset())

    def step_wait(self):
        *results, infos = self.venv.step_wait()
        return (*(overwritten(*pair) for pair in zip(self.kept, results, strict=True)), infos)


class Hold(BaseCallback):
    """Holds the local variables of every step."""

    def __init__(self):
        super().__init__()
        self.held, self.copies = [], []

    def _on_step(self):
        names = ("actions", "clipped_actions", "values", "log_probs", "starts", "state", "ended")
        mine = [self.locals[name] for name in names]
        self.held.append(mine)
        self.copies.append(copy.deepcopy(mine))
        return True


@pytest.mark.parametrize(
    "space",
    [None, spaces.Dict(a=spaces.Box(-1, 1, (2,), np.float32), b=spaces.Discrete(4))],
    ids=["box", "dict"],
)
def test_a_rollout_is_the_same_whoever_owns_the_arrays(make_wander, make_model, space):
    runs, hold = [], Hold()
    for wrap in (lambda env: env, SharedBuffers):
        env = wrap(VectorEnvAdapter(make_wander(observation_space=space)))
        model = make_model({"hidden_size": 8}, env, n_epochs=1).learn(192, callback=hold)
        buffer = model.rollout_buffer
        runs.append([buffer.observations, buffer.actions, buffer.rewards, buffer.returns])
        runs[-1] += [*leaves(buffer.initial_state), buffer.episode_starts]
        runs[-1] += list(model.policy.parameters())
    for one, other in zip(leaves(runs[0]), leaves(runs[1]), strict=True):
        np.testing.assert_array_equal(*(torch.as_tensor(part).detach() for part in (one, other)))
    for one, other in zip(leaves(hold.held), leaves(hold.copies), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_environment_that_changes_actions_does_not_change_the_stored_ones(make_clocks):
    env = Reusing(make_clocks(LENGTHS, AutoresetMode.SAME_STEP))
    model = RecurrentPPO("PlasticPolicy", env, n_steps=8, n_epochs=1, device="cpu").learn(32)
    assert (model.rollout_buffer.actions != 0).all()


def test_the_state_at_the_beginning_is_not_the_one_that_goes_on(make_model, some_core):
    class Overwriting(torch.nn.Module):
        """A core that writes into its state although it must not."""

        output_size = 3

        def __init__(self, inputs):
            super().__init__()
            self.layer = torch.nn.Linear(inputs, 3)

        def initial_state(self, batch_size):
            return (torch.zeros(batch_size, 3),)

        def step(self, x, state=None, episode_starts=None):
            state[0].masked_fill_(episode_starts[:, None], 0).add_(1)
            return self.layer(x), state

        def forward(self, x, state=None, episode_starts=None):
            return self.layer(x), state

    model = make_model({"core": Overwriting}, n_epochs=1).learn(96)
    assert (model.rollout_buffer.initial_state[0] == 0).all()


def test_predicted_states_are_the_callers(make_model, some_memory):
    model = make_model(some_memory)
    x = np.ones((4, 3), np.float32)
    _, state = model.predict(x)
    before = copied(list(leaves(state)))
    model.predict(x, state)
    for leaf, copy_ in zip(leaves(state), before, strict=True):
        np.testing.assert_array_equal(leaf, copy_)
        leaf.setflags(write=False)  # as from a memory-mapped file
    first, _ = model.predict(x, state, deterministic=True)
    np.testing.assert_array_equal(first, model.predict(x, state, deterministic=True)[0])


def test_settings_are_those_at_the_time(make_model, tmp_path):
    kwargs = {"hidden_size": 8, "core": "gru", "net_arch": [8], "core_kwargs": {"num_layers": 2}}
    model = make_model(kwargs)
    kwargs["core_kwargs"]["num_layers"], kwargs["core"] = 1, "lstm"
    kwargs["net_arch"].append(4)
    model.save(tmp_path / "model")
    model.policy.save(tmp_path / "policy")
    loaded = RecurrentPPO.load(tmp_path / "model")
    policy = type(model.policy).load(tmp_path / "policy")
    for found in (loaded.policy, policy):
        assert found.core.module.num_layers == 2
        assert found.net_arch == [8]
