"""Every space is learned from as the environment declares it, or refused by name at once."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import FilterObservation, FlattenObservation, TransformAction
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import NatureCNN

from agents.sb3 import DictExtractor, ImageExtractor, PlasticPolicy, RecurrentPPO
from agents.sb3.actions import actions_to_take
from agents.sb3.extractor import ImageLabelExtractor

SEEN, CHOICE = spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(2)


class Strict(gym.Env):
    """Takes what is in its action space, and nothing else."""

    def __init__(self, observation_space=SEEN, action_space=CHOICE):
        self.observation_space, self.action_space = observation_space, action_space
        self.taken = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.time = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        if isinstance(self.action_space, spaces.Box):
            action = np.asarray(action)  # `DummyVecEnv` makes numbers of scalar arrays
        assert self.action_space.contains(action), (action, getattr(action, "dtype", None))
        self.taken.append(np.copy(action))
        self.time += 1
        return self.observation_space.sample(), float(self.time % 2), self.time == 3, False, {}


ACTIONS = {
    "start": spaces.Discrete(3, start=1),
    "negative": spaces.Discrete(4, start=-7),
    "far": spaces.Discrete(2, start=2**40),
    "one": spaces.Discrete(1, start=5),
    "multi-start": spaces.MultiDiscrete([3, 2], start=[1, -4]),
    "multi-small": spaces.MultiDiscrete([3, 2], dtype=np.int8),
    "multi-grid": spaces.MultiDiscrete([[3, 2], [4, 5]]),
    "multi-grid-start": spaces.MultiDiscrete([[3, 2, 2]], start=[[9, 0, -1]]),
    "binary": spaces.MultiBinary(3),
    "binary-grid": spaces.MultiBinary([2, 3]),
    "box-asymmetric": spaces.Box(np.float32([0.5, -9]), np.float32([0.6, -8])),
    "box-float64": spaces.Box(-0.1, 0.1, (2,), np.float64),
    "box-float16": spaces.Box(-0.1, 0.1, (2, 2), np.float16),
    "box-integer": spaces.Box(-2, 2, (2,), np.int64),
    "box-byte": spaces.Box(0, 255, (2,), np.uint8),
    "box-point": spaces.Box(1, 1, (2,), np.float32),
    "box-scalar": spaces.Box(-1, 1, (), np.float32),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_stored_sampled_and_taken_are_one(name, collect):
    space = ACTIONS[name]
    env = Strict(action_space=space)
    kwargs = {"hidden_size": 8, "core": "gru"}
    model = RecurrentPPO(
        "PlasticPolicy", env, n_steps=24, n_epochs=2, policy_kwargs=kwargs, seed=0, device="cpu"
    )
    batch = collect(model)
    stored = model.rollout_buffer.actions[:, 0].reshape(24, *space.shape)
    taken = np.array(env.taken[-24:])
    np.testing.assert_array_equal(actions_to_take(stored, space), taken)
    if not isinstance(space, spaces.Box):
        np.testing.assert_array_equal(stored, taken)
    if isinstance(space, spaces.Discrete):
        assert set(taken.tolist()) == {space.start + k for k in range(space.n)}
    _, log_prob, _ = model.policy.evaluate_actions(
        batch.observations, batch.actions, batch.initial_state, batch.episode_starts
    )
    torch.testing.assert_close(log_prob, batch.old_log_prob, rtol=1e-4, atol=1e-5)
    for deterministic in (True, False):
        observation, _ = env.reset(seed=1)
        action, _ = model.predict(observation, deterministic=deterministic)
        assert space.contains(action)
        assert action.dtype == space.dtype


def test_a_vector_environment_gets_actions_of_its_batched_space():
    env = gym.vector.SyncVectorEnv([lambda: Strict(action_space=ACTIONS["multi-grid-start"])] * 3)
    kwargs = {"hidden_size": 8}
    RecurrentPPO("PlasticPolicy", env, n_steps=8, n_epochs=1, policy_kwargs=kwargs).learn(24)


def test_the_probability_is_that_of_the_action_taken():
    space = ACTIONS["start"]
    model = RecurrentPPO("PlasticPolicy", Strict(action_space=space), n_steps=4, seed=0)
    with torch.no_grad():
        model.policy.action_net.bias[:] = torch.tensor([0.0, 0.0, 20.0])
    action, _ = model.predict(np.zeros(3, np.float32), deterministic=True)
    assert action == 3
    starts, state = torch.zeros(1, 1) > 0, model.policy.initial_state(1)
    x = torch.zeros(1, 1, 3)
    log_probs = [
        model.policy.evaluate_actions(x, torch.tensor([[k]]), state, starts)[1].item()
        for k in (1, 2, 3)
    ]
    assert log_probs[2] > -0.01
    assert sum(np.exp(log_probs)) == pytest.approx(1)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_box_is_respected(data):
    dtype = data.draw(st.sampled_from([np.float16, np.float32, np.float64, np.int8, np.int32]))
    shape = data.draw(st.sampled_from([(), (2,), (1, 2)]))
    ends = sorted(data.draw(st.lists(st.integers(-100, 100), min_size=2, max_size=2)))
    if np.issubdtype(dtype, np.floating):
        ends = [dtype(end / 7) for end in ends]
    space = spaces.Box(*ends, shape, dtype)
    sampled = data.draw(st.floats(-(2.0**100), 2.0**100, width=32))
    taken = actions_to_take(np.full((3, *shape), sampled, np.float32), space)
    assert all(space.contains(np.asarray(action)) for action in taken)


def test_integers_are_the_nearest():
    taken = actions_to_take(np.float32([[1.6, -0.7, 99]]), spaces.Box(-2, 2, (3,), np.int64))
    np.testing.assert_array_equal(taken, [[2, -1, 2]])


UNFIT_ACTIONS = {
    "unbounded": spaces.Box(-np.inf, np.inf, (2,)),
    "one-sided": spaces.Box(0, np.inf, (2,)),
    "half": spaces.Box(np.float32([0, -np.inf]), np.float32([1, 1])),
    "integers": spaces.Box(-np.inf, np.inf, (2,), np.int64),
    "empty": spaces.Box(0, 1, (0,)),
    "tuple": spaces.Tuple([spaces.Discrete(2)]),
    "dict": spaces.Dict(a=spaces.Discrete(2)),
    "text": spaces.Text(3),
}


@pytest.mark.parametrize("name", UNFIT_ACTIONS)
def test_refuses_actions(name):
    env = Strict(action_space=UNFIT_ACTIONS[name])
    with pytest.raises(ValueError, match=r"^action_space must .*TransformAction"):
        RecurrentPPO("PlasticPolicy", env)
    with pytest.raises(ValueError, match=r"^action_space must .*TransformAction"):
        PlasticPolicy(env.observation_space, env.action_space, lambda _: 1e-3)


def test_advice_about_actions_is_true():
    env = Strict(action_space=UNFIT_ACTIONS["one-sided"])
    bounded = TransformAction(env, lambda action: action, spaces.Box(0, 5, (2,)))
    RecurrentPPO("PlasticPolicy", bounded, n_steps=8, n_epochs=1).learn(8)


PICTURE = spaces.Box(0, 255, (7, 7, 3), np.uint8)


class Mission(spaces.Space):
    """A space of somebody's own, as MiniGrid has one."""

    def __init__(self):
        super().__init__((), np.str_)

    def sample(self, mask=None, probability=None):
        return "go to the red door"

    def contains(self, x):
        return isinstance(x, str)


GRID = {"image": PICTURE, "direction": spaces.Discrete(4)}
UNFIT_OBSERVATIONS = {
    "tuple": (spaces.Tuple([spaces.Discrete(2), PICTURE]), "FlattenObservation"),
    "nested": (spaces.Dict(a=spaces.Dict(b=PICTURE)), r"\['a'\].*FlattenObservation"),
    "tuple-in-dict": (spaces.Dict(a=spaces.Tuple([PICTURE])), r"\['a'\].*FlattenObservation"),
    "text": (spaces.Text(4), "FlattenObservation"),
    "graph": (spaces.Graph(PICTURE, None), "TransformObservation"),
    "sequence": (spaces.Sequence(PICTURE), "TransformObservation"),
    "own": (Mission(), "TransformObservation"),
    "mission": (spaces.Dict(**GRID, mission=Mission()), r"\['mission'\].*FilterObservation"),
    "start": (spaces.Discrete(3, start=1), "start at 0.*FlattenObservation"),
    "multi-start": (spaces.MultiDiscrete([3], start=[2]), "start at 0.*FlattenObservation"),
    "multi-grid": (spaces.MultiDiscrete([[3, 2]]), "one axis.*FlattenObservation"),
    "scalar": (spaces.Box(0, 1, ()), "an axis.*FlattenObservation"),
    "empty": (spaces.Box(0, 1, (2, 0)), "at least one entry"),
    "nothing": (spaces.Dict(), "without entries"),
}


@pytest.mark.parametrize("name", UNFIT_OBSERVATIONS)
def test_refuses_observations(name):
    space, problem = UNFIT_OBSERVATIONS[name]
    env = Strict(space)
    with pytest.raises(ValueError, match=rf"^observation_space.*{problem}") as caught:
        RecurrentPPO("PlasticPolicy", env)
    assert len(str(caught.value)) < 500
    with pytest.raises(ValueError, match=rf"^observation_space.*{problem}"):
        PlasticPolicy(space, env.action_space, lambda _: 1e-3)


@pytest.mark.parametrize(
    "name",
    ["tuple", "nested", "tuple-in-dict", "start", "multi-start", "multi-grid", "scalar", "mission"],
)
def test_advice_about_observations_is_true(name):
    env = Strict(UNFIT_OBSERVATIONS[name][0])
    env = FilterObservation(env, list(GRID)) if name == "mission" else FlattenObservation(env)
    RecurrentPPO("PlasticPolicy", env, n_steps=8, n_epochs=1).learn(8)


FIT_OBSERVATIONS = {
    "multi-discrete": spaces.MultiDiscrete([3, 2, 5]),
    "multi-binary": spaces.MultiBinary([2, 3]),
    "minigrid": spaces.Dict(**GRID),
    "dict": spaces.Dict(
        {"a.b": PICTURE, "keys": spaces.MultiDiscrete([3, 2]), "c": spaces.MultiBinary(2)}
    ),
    "pixel": spaces.Box(0, 255, (1, 1, 3), np.uint8),
    "strip": spaces.Box(0, 255, (3, 1, 90), np.uint8),
    "small": PICTURE,
    "large": spaces.Box(0, 255, (3, 36, 40), np.uint8),
    "floats": spaces.Box(0, 1, (9, 12, 4), np.float32),
    "labelled": spaces.Dict(image=PICTURE, label=spaces.Box(0, 1, (3,))),
    "labelled-much": spaces.Dict(
        image=spaces.Box(0, 255, (28, 28, 1), np.uint8), label=spaces.Box(0, 1, (30,))
    ),
}


@pytest.mark.filterwarnings("ignore:Treating image space as channels-last")
@pytest.mark.parametrize("name", FIT_OBSERVATIONS)
def test_takes_observations(name, tmp_path):
    env = Strict(FIT_OBSERVATIONS[name])
    kwargs = {"hidden_size": 16}
    model = RecurrentPPO("PlasticPolicy", env, n_steps=8, n_epochs=1, policy_kwargs=kwargs, seed=0)
    model.learn(16)
    assert type(model.policy.core.input_size) is int
    model.save(tmp_path / "model")
    loaded = RecurrentPPO.load(tmp_path / "model")
    observation = model.get_env().reset()
    actions = [found.predict(observation, deterministic=True)[0] for found in (model, loaded)]
    np.testing.assert_array_equal(*actions)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from([np.uint8, np.float32, np.float64]),
)
def test_images_of_any_size(height, width, channels, first, dtype):
    shape = (channels, height, width) if first else (height, width, channels)
    space = spaces.Box(0, 255 if dtype == np.uint8 else 1, shape, dtype)
    extractor = ImageExtractor(space, features_dim=6)
    images = torch.rand(2, *shape).requires_grad_()
    features = extractor(images)
    assert features.shape == (2, 6)
    extractor.linear[0](extractor.cnn(_channels_first(images, extractor))).sum().backward()
    assert images.grad.isfinite().all()
    assert DictExtractor(spaces.Dict(a=space)).features_dim == 256


def _channels_first(images, extractor):
    return images if extractor._channels_first else images.permute(0, 3, 1, 2)


def test_large_images_are_seen_as_by_the_network_of_mnih():
    space = spaces.Box(0, 255, (3, 84, 84), np.uint8)
    torch.manual_seed(0)
    ours = ImageExtractor(space)
    torch.manual_seed(0)
    theirs = NatureCNN(space)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    images = torch.rand(2, 3, 84, 84)
    torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=0)


def test_channels_may_come_last():
    last, first = spaces.Box(0, 1, (8, 9, 3)), spaces.Box(0, 1, (3, 8, 9))
    one, other = ImageExtractor(last, 5), ImageExtractor(first, 5)
    other.load_state_dict(one.state_dict())
    images = torch.rand(4, 8, 9, 3)
    torch.testing.assert_close(one(images), other(images.permute(0, 3, 1, 2)))


def test_default_extractors():
    def default(space):
        policy = PlasticPolicy(space, spaces.Discrete(2), lambda _: 1e-3, hidden_size=16)
        return type(policy.features_extractor)

    assert default(FIT_OBSERVATIONS["small"]) is ImageExtractor
    assert default(FIT_OBSERVATIONS["floats"]) is ImageExtractor
    assert default(FIT_OBSERVATIONS["labelled"]) is DictExtractor
    assert default(spaces.Dict(**GRID)) is DictExtractor
    image = spaces.Box(0, 255, (1, 16, 16), np.uint8)
    assert default(spaces.Dict(image=image, label=spaces.Box(0, 1, (3,)))) is ImageLabelExtractor


@pytest.mark.parametrize("policy", ["MultiInputPolicy", "CnnPolicy"])
def test_stable_baselines_takes_our_images(policy):
    kwargs = {"features_extractor_kwargs": {"image_features": 8}}
    kwargs["features_extractor_class"] = DictExtractor
    if policy == "CnnPolicy":
        env = Strict(PICTURE)
        kwargs = {"features_extractor_class": ImageExtractor}
    else:
        env = Strict(FIT_OBSERVATIONS["labelled-much"])
    model = PPO(policy, env, n_steps=10, batch_size=10, n_epochs=1, policy_kwargs=kwargs)
    model.learn(20)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: ImageExtractor(spaces.Box(0, 1, (3, 3))), "Box of rank 3"),
        (lambda: ImageExtractor(spaces.Discrete(3)), "Box of rank 3"),
        (lambda: ImageExtractor(PICTURE, features_dim=0), "features_dim must be an integer"),
        (lambda: DictExtractor(PICTURE), "must be a Dict"),
        (lambda: DictExtractor(spaces.Dict(a=PICTURE), True), "image_features must be an integer"),
    ],
)
def test_extractors_refuse(make, problem):
    with pytest.raises(ValueError, match=problem):
        make()
