"""A small vector environment whose sub-environments end at different times."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from agents.sb3.ppo import RecurrentPPO


class Clock(gym.Env):
    """Shows [episode, step]; ends after `length` steps, by time if `length` is odd."""

    def __init__(self, length=3, number=0):
        self.observation_space = spaces.Box(-1, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)
        self.length, self.number = length, number
        self.episode = -1

    def _observation(self):
        return np.array([self.episode, self.time], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.episode = seed - 1
        self.episode, self.time = self.episode + 1, 0
        return self._observation(), {"began": self.episode, "options": options or None}

    def step(self, action):
        self.time += 1
        over = self.time == self.length
        by_time = bool(over and self.length % 2)
        info = {"time": self.time, "nested": {"double": 2 * self.time}}
        if over:
            info["is_success"] = True
        return self._observation(), float(self.time), over and not by_time, by_time, info

    def place(self, offset=0):
        return self.number + offset


class NativeClocks(VectorEnv):
    """The same as one batch; with `reset_mask` in mode DISABLED alone."""

    def __init__(self, lengths, mode):
        self.clocks = [Clock(length, k) for k, length in enumerate(lengths)]
        self.num_envs = len(lengths)
        self.metadata = {"autoreset_mode": mode}
        self.single_observation_space = self.clocks[0].observation_space
        self.single_action_space = self.clocks[0].action_space
        self.observation_space = gym.vector.utils.batch_space(
            self.single_observation_space, self.num_envs
        )
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, self.num_envs)
        self.over = np.zeros(self.num_envs, bool)
        self.colour = "blue"
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        if options:
            return self._reset_some(options.pop("reset_mask"))
        seeds = [None if seed is None else seed + k for k in range(self.num_envs)]
        observed = [clock.reset(seed=s)[0] for clock, s in zip(self.clocks, seeds, strict=True)]
        self.over[:] = False
        return np.stack(observed), {}

    def _reset_some(self, mask):
        """Show nothing of those that go on, as Gymnasium leaves open."""
        assert self.metadata["autoreset_mode"] is AutoresetMode.DISABLED
        shown, infos = np.full(self.observation_space.shape, np.nan, np.float32), {}
        for k in np.flatnonzero(mask):
            shown[k], info = self.clocks[k].reset()
            infos = self._add_info(infos, info, k)
        self.over[mask] = False
        return shown, infos

    def step(self, actions):
        self.steps += 1
        infos, rows = {}, []
        for k, clock in enumerate(self.clocks):
            if self.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP and self.over[k]:
                rows.append((clock.reset()[0], 0.0, False, False))
                continue
            assert not self.over[k]
            observation, reward, terminated, truncated, info = clock.step(actions[k])
            if self.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP and (
                terminated or truncated
            ):
                final = {"final_obs": observation, "final_info": info}
                infos = self._add_info(infos, final, k)
                observation, info = clock.reset()
            infos = self._add_info(infos, info, k)
            rows.append((observation, reward, terminated, truncated))
        observations, rewards, terminated, truncated = map(np.array, zip(*rows, strict=True))
        if self.metadata["autoreset_mode"] is not AutoresetMode.SAME_STEP:
            self.over = terminated | truncated
        return observations, rewards, terminated, truncated, infos

    def places(self):
        return np.arange(self.num_envs)

    def number_of_steps(self):
        return self.steps


@pytest.fixture(scope="session")
def make_clock():
    return Clock


@pytest.fixture(scope="session")
def make_clocks():
    """Return a function that makes clocks of given lengths, native or as objects of their own."""

    def make(lengths, mode, native=False):
        if native:
            return NativeClocks(lengths, mode)
        functions = [lambda k=k, n=n: Clock(n, k) for k, n in enumerate(lengths)]
        return gym.vector.SyncVectorEnv(functions, autoreset_mode=mode)

    return make


class Wander(gym.Env):
    """Random observations; episodes of 2 to 9 steps, half of them ended by time.

    The reward is the first observation's sign times the action's first entry: it takes a memory.
    """

    def __init__(self, observation_space=None, action_space=None):
        self.observation_space = observation_space or spaces.Box(-5, 5, (3,), np.float32)
        self.action_space = action_space or spaces.Discrete(3)

    def _observation(self):
        space = self.observation_space
        parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
        drawn = {}
        for name, part in parts.items():
            if isinstance(part, spaces.Discrete):
                drawn[name] = int(self.np_random.integers(part.n))
            elif part.dtype == np.uint8:
                drawn[name] = self.np_random.integers(0, 256, part.shape, np.uint8)
            else:
                drawn[name] = self.np_random.uniform(-1, 1, part.shape).astype(part.dtype)
        return drawn if isinstance(space, spaces.Dict) else drawn[""]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left, self.by_time = self.np_random.integers(2, 10), self.np_random.random() < 0.5
        self.sign = self.np_random.choice([-1.0, 1.0])
        return self._observation(), {}

    def step(self, action):
        self.left -= 1
        over = bool(self.left == 0)
        reward = self.sign * float(np.ravel(action)[0])
        by_time = bool(over and self.by_time)
        return self._observation(), reward, over and not by_time, by_time, {}


@pytest.fixture(scope="session")
def make_wander():
    """Return a function that makes a vector of such environments."""

    def make(num_envs=4, **kwargs):
        functions = [lambda: Wander(**kwargs)] * num_envs
        return gym.vector.SyncVectorEnv(functions, autoreset_mode=AutoresetMode.SAME_STEP)

    return make


CORES = {
    "gradient-rnn": {"rule": "gradient"},
    "gradient-lstm": {"rule": "gradient", "cell": "lstm"},
    "hebbian-rnn": {"rule": "hebbian"},
    "hebbian-lstm": {"rule": "hebbian", "cell": "lstm"},
    "none-rnn": {"rule": "none"},
    "none-lstm": {"rule": "none", "cell": "lstm"},
    "lstm": {"core": "lstm"},
    "gru": {"core": "gru"},
    "rnn": {"core": "rnn"},
    "mlp": {"core": "mlp"},
    "lstm-layers": {"core": "lstm", "core_kwargs": {"num_layers": 2}},
    "factory": {"core": lambda inputs, hidden_size: torch.nn.GRU(inputs, hidden_size)},
}


def memory(core, **options):
    """Return the keyword arguments of a policy with a small associative memory."""
    sizes = {"embedding": 12, "key_size": 4, "value_size": 3}
    return {"core": core, "hidden_size": None, "core_kwargs": {**sizes, **options}}


CORES |= {
    **{name: memory(name) for name in ("hebbian-memory", "delta", "gated-delta", "mesa")},
    "attention-window": memory("attention", context=3, match="dot"),  # shorter than episodes
    "attention-gru": memory("attention", features="gru", heads=2, layers=2),
    "gated-mesa": memory("mesa", features="relu", heads=2, keep=0.9),
}


@pytest.fixture(scope="session", params=CORES)
def core(request):
    """Keyword arguments of a policy with each core."""
    return {"hidden_size": 16, **CORES[request.param]}


SOME = ["gradient-rnn", "lstm", "attention-window"]


@pytest.fixture(scope="session", params=[*SOME, "mlp"])
def some_core(request):
    return {"hidden_size": 16, **CORES[request.param]}


@pytest.fixture(scope="session", params=SOME)
def some_memory(request):
    """Of some cores, those that remember."""
    return {"hidden_size": 16, **CORES[request.param]}


@pytest.fixture(scope="session")
def make_model(make_wander):
    """Return a function that makes a model on such environments."""

    def make(policy_kwargs=None, env=None, num_envs=4, env_kwargs=None, **kwargs):
        env = make_wander(num_envs, **(env_kwargs or {})) if env is None else env
        settings = {"n_steps": 24, "n_epochs": 2, "seed": 0, "device": "cpu", **kwargs}
        return RecurrentPPO("PlasticPolicy", env, policy_kwargs=policy_kwargs, **settings)

    return make


@pytest.fixture(scope="session")
def collect():
    """Return a function that lets a model learn, except for its last update."""

    def run(model, rollouts=2):
        total = rollouts * model.n_steps * model.n_envs
        update = type(model).train

        def train():
            if model.num_timesteps < total:
                update(model)

        model.train = train
        model.learn(total)
        del model.train
        return next(model.rollout_buffer.sequences())

    return run
