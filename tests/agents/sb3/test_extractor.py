"""The extractor computes from a history what the network computes step by step."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO, SAC

from agents.sb3 import PlasticFeaturesExtractor, VectorEnvAdapter
from plastic_envs.wrappers import (
    History,
    PreviousActionReward,
    VectorHistory,
    VectorPreviousActionReward,
)

STEPS = 6
LENGTHS = {
    "scalar": spaces.Box(1, STEPS, (), np.int64),
    "vector": spaces.Box(1, STEPS, (1,), np.float32),
    "discrete": spaces.Discrete(STEPS + 1),
}


def make_space(length="scalar", shape=(3,)):
    return spaces.Dict(history=spaces.Box(-1, 1, (STEPS, *shape)), length=LENGTHS[length])


def flat(policy_kwargs):
    """Return the arguments of an extractor for those of a policy with the same core."""
    kwargs = dict(policy_kwargs)
    return kwargs.pop("core_kwargs", {}) | kwargs


class Remember(gym.Env):
    """Shows its history itself; rewards the action that has the sign of the first observation."""

    def __init__(self, action_space, length="scalar", shape=(3,)):
        self.observation_space, self.action_space = make_space(length, shape), action_space
        self.shape = shape

    def _observation(self):
        self.seen[self.time] = self.np_random.uniform(-1, 1, self.shape)
        self.time += 1
        space = self.observation_space["length"]
        is_discrete = isinstance(space, spaces.Discrete)
        length = self.time if is_discrete else np.full(space.shape, self.time, space.dtype)
        return {"history": self.seen.copy(), "length": length}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seen, self.time = np.zeros((STEPS, *self.shape), np.float32), 0
        return self._observation(), {}

    def step(self, action):
        over = self.time == STEPS - 1
        reward = float(np.sign(self.seen[0].flat[0]) * (np.ravel(action)[0] - 0.5))
        return self._observation(), reward, over, False, {}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("shape", [(3,), (2, 2), ()])
def test_equals_the_network_step_by_step(some_memory, length, shape):
    extractor = PlasticFeaturesExtractor(make_space(length, shape), **flat(some_memory)).double()
    generator = torch.Generator().manual_seed(0)
    history = torch.randn(4, STEPS, *shape, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([1, 5, 3, 5])
    seen = lengths.view(4, 1) if length == "vector" else lengths
    if length == "discrete":
        seen = torch.nn.functional.one_hot(lengths, STEPS + 1).double()
    features = extractor({"history": history, "length": seen})
    assert features.shape == (4, extractor.features_dim)
    for k, steps in enumerate(lengths):
        state = None
        for t in range(steps):
            output, state = extractor.core.step(history[k, t].view(1, -1), state)
        torch.testing.assert_close(features[k], output[0])


def test_ignores_what_comes_after(some_memory):
    extractor = PlasticFeaturesExtractor(make_space(), **flat(some_memory))
    history = torch.randn(2, STEPS, 3).requires_grad_()
    features = extractor({"history": history, "length": torch.tensor([2, 4])})
    (gradient,) = torch.autograd.grad(features.sum(), history)
    assert gradient[0, :2].any(dim=1).all()
    assert not gradient[0, 2:].any()
    assert not gradient[1, 4:].any()


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("algorithm", [PPO, A2C, DQN, pytest.param(SAC, marks=pytest.mark.slow)])
def test_unmodified_algorithms_learn_with_it(algorithm, length, tmp_path):
    space = spaces.Box(0, 1, (1,), np.float32) if algorithm is SAC else spaces.Discrete(2)
    if length == "scalar" and algorithm in (DQN, SAC):
        pytest.skip("their replay buffers index a dimension that scalars lack")
    settings = {"learning_starts": 30} if algorithm in (DQN, SAC) else {"n_steps": 30}
    if algorithm is PPO:
        settings["batch_size"] = 30
    policy_kwargs = {
        "features_extractor_class": PlasticFeaturesExtractor,
        "features_extractor_kwargs": {"features_dim": 8, "hidden_size": 8, "rule": "hebbian"},
    }
    env = Remember(space, length)
    model = algorithm("MultiInputPolicy", env, policy_kwargs=policy_kwargs, seed=0, **settings)
    names = {name for name, _ in model.policy.named_parameters() if "core" in name}
    before = {name: dict(model.policy.named_parameters())[name].clone() for name in names}
    model.learn(60)
    after = dict(model.policy.named_parameters())
    assert any(not torch.equal(before[name], after[name]) for name in names)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model")
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(
        *(found.predict(observation, deterministic=True)[0] for found in (model, loaded))
    )


def test_with_the_history_wrapper():
    """Also around previous action and reward, single and vector, of a foreign environment."""
    single = History(PreviousActionReward(gym.make("PlasticBandit-v0")))
    envs = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
    cartpole = VectorEnvAdapter(VectorHistory(VectorPreviousActionReward(envs), max_steps=20))
    kwargs = {"features_extractor_class": PlasticFeaturesExtractor}
    dqn = DQN("MultiInputPolicy", single, learning_starts=20, policy_kwargs=kwargs)
    a2c = A2C("MultiInputPolicy", cartpole, n_steps=20, policy_kwargs=kwargs)
    for model, steps in ((dqn, 40), (a2c, 80)):
        before = [parameter.clone() for parameter in model.policy.parameters()]
        assert model.learn(steps).num_timesteps == steps
        after = model.policy.parameters()
        assert any(not torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_several_histories_are_joined():
    parts = {"one": spaces.Box(-1, 1, (4, 2)), "two": spaces.Box(-1, 1, (4, 3, 2))}
    extractor = PlasticFeaturesExtractor(spaces.Dict(length=spaces.Box(1, 4, (1,)), **parts))
    assert extractor.core.input_size == 8
    seen = {name: torch.randn(5, *part.shape) for name, part in parts.items()}
    features = extractor({**seen, "length": torch.full((5, 1), 3.0)})
    joined = torch.cat([seen["one"], seen["two"].flatten(2)], dim=2)[:, :3]
    torch.testing.assert_close(features, extractor.core(joined)[0][:, -1])


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        (spaces.Box(0, 1, (3,)), "'history' and 'length'"),
        (spaces.Dict(history=spaces.Discrete(3), length=LENGTHS["scalar"]), "must be a Box"),
        (spaces.Dict(a=spaces.Box(0, 1, (3, 2)), b=spaces.Box(0, 1, (3, 2))), "'length' must be"),
        (
            spaces.Dict(
                history=spaces.Box(0, 255, (STEPS, 9, 9), np.uint8), length=LENGTHS["scalar"]
            ),
            "no images",
        ),
        (
            spaces.Dict(history=spaces.Box(0, 1, (STEPS, 2)), length=spaces.Box(0, 1, (2,))),
            "one entry",
        ),
    ],
)
def test_refuses_other_spaces(space, problem):
    with pytest.raises(ValueError, match=problem):
        PlasticFeaturesExtractor(space)


def test_says_what_to_install():
    code = (
        "import sys\nsys.modules['stable_baselines3'] = None\n"
        "import agents\n"
        "try:\n    import agents.sb3\n"
        "except ImportError as error:\n    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert ".[sb3]" in result.stdout
