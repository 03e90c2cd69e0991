"""Every argument works, or is refused by its name, with its value."""

import math
import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from agents import TorchCore
from agents.memories.feedforward import Feedforward
from agents.sb3 import (
    DictExtractor,
    ImageExtractor,
    ImageLabelExtractor,
    PlasticFeaturesExtractor,
    PlasticPolicy,
    RecurrentPPO,
    RecurrentRolloutBuffer,
    VectorEnvAdapter,
)
from plastic_envs.checks import shown

JUNK = ["no", b"3", [], {}, (), 3j, math.nan, math.inf, -1, 0, 1.5, True, None, np.array([1, 2])]
JUNK += [
    10**400,
    2**63,
    object,
    nn.Identity(),
    torch.ones(2),
    np.float32(-0.5),
    np.str_("x"),
    1e300,
]


class Plain(gym.Env):
    observation_space, action_space = spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.float32), {}

    def step(self, action):
        return np.zeros(3, np.float32), 0.0, False, False, {}


def make(**kwargs):
    settings = {"n_steps": 4, "n_epochs": 1, "device": "cpu", "policy_kwargs": {"core": "mlp"}}
    return RecurrentPPO("PlasticPolicy", Plain(), **(settings | kwargs))


def make_policy(**kwargs):
    return make(policy_kwargs=kwargs)


def nan(_):
    return math.nan


REFUSED = [
    ("gamma", [-1, 1.1, math.nan, "no", None, True]),
    ("gae_lambda", [-0.1, 2, math.nan]),
    ("n_steps", [0, -1, True, 1.5, "4", None, 2**40]),
    ("n_epochs", [0, 1.5, True, None]),
    ("batch_size", [0, -4, 4.0, True, "no", 6]),
    ("learning_rate", [-1e-3, math.nan, "no", None, True, nan, lambda _: -1, lambda _: "x"]),
    ("clip_range", [0, -0.2, math.nan, None, "no", nan]),
    ("clip_range_vf", [0, -0.2, math.nan, "no", nan, False]),
    ("normalize_advantage", ["no", 1, None, 0]),
    ("ent_coef", [-0.1, math.nan, "auto", None]),
    ("vf_coef", [-0.5, math.inf, None]),
    ("max_grad_norm", [-1, 0, math.nan, None, "no"]),
    ("target_kl", [0, -0.1, math.nan, True, "no"]),
    ("stats_window_size", [0, -1, 1.5, None, True]),
    ("verbose", [-1, 3, "no", None, True]),
    ("seed", [-1, 2**32, 1.5, "no", True]),
    ("device", ["gpu!", 1.5, []]),
    ("tensorboard_log", [3, True, b"x"]),
    ("monitor_wrapper", ["no", None, 1]),
    ("policy_kwargs", ["no", 3, [1], {"observation_space": 1}, {"use_sde": True}]),
    ("rollout_buffer_class", [int, "no", torch.nn.Module]),
    ("rollout_buffer_kwargs", ["no", 3]),
    ("use_sde", [True, "no", 1, None]),
    ("sde_sample_freq", [4, "no"]),
    ("supported_action_spaces", [(spaces.Box,)]),
]
CASES = [(name, value) for name, values in REFUSED for value in values]
LATE = {"device", "monitor_wrapper", "tensorboard_log", "verbose", "seed", "stats_window_size"}
LATE |= {"sde_sample_freq", "supported_action_spaces", "rollout_buffer_kwargs", "use_sde"}


@pytest.mark.parametrize(
    ("name", "value"), CASES, ids=lambda value: shown(value).split(" at 0x")[0]
)
def test_refuses_by_name(name, value):
    with pytest.raises((ValueError, TypeError), match=rf"{name}\b") as caught:
        make(**{name: value})
    assert len(str(caught.value)) < 400


def test_refuses_the_same_when_loaded_or_changed(tmp_path):
    model = make()
    model.save(tmp_path / "model")
    for name, value in [(name, value) for name, values in REFUSED for value in values[:2]]:
        if name in LATE or (name == "learning_rate" and not callable(value)):
            continue
        if name == "policy_kwargs":  # Stable-Baselines3 compares them first
            continue
        with pytest.raises(ValueError, match=rf"{name}\b"):
            RecurrentPPO.load(tmp_path / "model", env=Plain(), **{name: value})
        changed = make()
        setattr(changed, name, value)
        with pytest.raises(ValueError, match=rf"{name}\b"):
            changed.learn(4)


@pytest.mark.parametrize("name", ["learning_rate", "clip_range", "clip_range_vf"])
def test_schedules_are_checked_when_they_are_asked(name):
    model = make(**{name: lambda progress: 0.1 if progress > 0.6 else math.nan})
    with pytest.raises(ValueError, match=rf"{name}.* must be a finite number .*got nan"):
        model.learn(16)
    down = make(**{name: lambda progress: 0.1 * progress})
    down.learn(13)  # the last rollout goes beyond the end, where no schedule is negative
    assert down.num_timesteps == 16


def test_takes_what_on_policy_algorithm_takes():
    model = make(
        use_sde=False,
        sde_sample_freq=-1,
        rollout_buffer_class=None,
        rollout_buffer_kwargs=None,
        stats_window_size=np.int64(7),
        tensorboard_log=None,
        monitor_wrapper=False,
        policy_kwargs=None,
        verbose=0,
        seed=np.int64(2),
        n_epochs=np.int32(1),
        gamma=np.float32(1),
    )
    assert model.learn(4).ep_info_buffer.maxlen == 7

    class Buffer(RecurrentRolloutBuffer):
        pass

    assert type(make(rollout_buffer_class=Buffer).rollout_buffer) is Buffer
    with pytest.raises(TypeError, match="no_such"):
        make(no_such=1)


POLICY_REFUSED = [
    ("rule", [0, False, "absent", nan]),
    ("cell", [0, False, "absent"]),
    ("core", ["transformer", 0, None, [], nn.Identity(), np.array(["lstm"])]),
    ("core_kwargs", ["no", 3, [1], {"output_size": 3}, {"input_size": 3}]),
    ("hidden_size", [0, -1, 1.5, True, "no"]),
    ("output_size", [0, -1, 1.5, True, "no"]),
    ("net_arch", ["no", 3, [0], [1.5], {"pi": 3}, {"actor": [3]}, [True], [[3]]]),
    ("log_std_init", [math.nan, "no", None, True, math.inf]),
    ("ortho_init", ["no", 1, None]),
    ("normalize_images", ["no", 1, None]),
    ("full_std", ["no", 1, None]),
    ("squash_output", [True, "no", None]),
    ("share_features_extractor", [False, "no", None]),
    ("activation_fn", [nn.Tanh(), "tanh", None, int]),
    ("optimizer_class", ["adam", None, nn.Tanh]),
    ("optimizer_kwargs", ["no", 3]),
    ("features_extractor_class", ["no", int, nn.Module, None]),
    ("features_extractor_kwargs", ["no", 3]),
]


@pytest.mark.parametrize(
    ("name", "value"),
    [(n, v) for n, vs in POLICY_REFUSED for v in vs],
    ids=lambda value: shown(value).split(" at 0x")[0],
)
def test_policies_refuse_by_name(name, value):
    with pytest.raises(ValueError, match=rf"{name}\b"):
        make_policy(**{name: value})


@settings(max_examples=80, deadline=None)
@given(st.sampled_from([n for n, _ in REFUSED]), st.sampled_from(JUNK))
def test_any_value_works_or_is_refused_by_name(name, value):
    if value is object and name in ("learning_rate", "clip_range", "clip_range_vf"):
        return  # a function: what it raises is its own affair
    try:
        make(**{name: value})
    except (ValueError, TypeError) as error:
        assert name in str(error)  # noqa: PT017 (either may be)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([n for n, _ in POLICY_REFUSED if n not in ("activation_fn", "rule", "cell")]),
    st.sampled_from(JUNK),
)
def test_any_value_of_a_policy_works_or_is_refused_by_name(name, value):
    if value is object and name == "core":
        return  # a class: what it makes is its own affair
    try:
        make_policy(**{name: value})
    except (ValueError, TypeError) as error:
        assert name in str(error)  # noqa: PT017 (either may be)


@pytest.mark.parametrize(
    ("policy", "problem"),
    [("MlpPolicy", "'PlasticPolicy'"), (3, "PlasticPolicy"), (nn.Module, "PlasticPolicy")],
)
def test_refuses_policies(policy, problem):
    with pytest.raises(ValueError, match=rf"policy must be .*{problem}"):
        RecurrentPPO(policy, Plain())


@pytest.mark.parametrize("env", [None, 3, object(), 10**12, [], {}])
def test_refuses_environments(env):
    with pytest.raises(ValueError, match=r"^env must be an environment or its id, got"):
        RecurrentPPO("PlasticPolicy", env)


@pytest.mark.parametrize(
    ("kwargs", "problem"),
    [
        ({"total_timesteps": math.nan}, "total_timesteps"),
        ({"total_timesteps": -1}, "total_timesteps"),
        ({"total_timesteps": "no"}, "total_timesteps"),
        ({"log_interval": 0}, "log_interval"),
        ({"reset_num_timesteps": "no"}, "reset_num_timesteps"),
        ({"progress_bar": 1}, "progress_bar"),
        ({"callback": 3}, "callback"),
        ({"callback": [3]}, "callback"),
    ],
)
def test_learn_refuses(kwargs, problem):
    with pytest.raises(ValueError, match=problem):
        make().learn(**({"total_timesteps": 4} | kwargs))


def test_learn_takes_round_floats_and_no_log():
    assert make().learn(8e0, log_interval=None).num_timesteps == 8


@pytest.mark.parametrize(
    ("kwargs", "problem"),
    [
        ({"state": np.zeros(3)}, "state must be what predict returned for a batch of 2"),
        ({"state": "no"}, "state must be"),
        ({"state": 3}, "state must be"),
        (
            {"state": (np.zeros((1, 1, 8)),)},
            r"state must be .*\[\[2, 1, 8\]\], got \[\[1, 1, 8\]\]",
        ),
        ({"episode_start": [True]}, r"episode_start must be bool \[2\]"),
        ({"episode_start": ["a", "b"]}, "episode_start must be"),
        ({"episode_start": np.zeros((2, 2))}, "episode_start must be"),
        ({"deterministic": "no"}, "deterministic must be True or False"),
        ({"observation": np.zeros((2, 4), np.float32)}, "shape"),
    ],
)
def test_predict_refuses(kwargs, problem):
    model = make_policy(core="gru", hidden_size=8)
    with pytest.raises(ValueError, match=problem):
        model.predict(**({"observation": np.zeros((2, 3), np.float32)} | kwargs))


def test_unknown_options_of_a_core_are_told_with_those_it_has():
    with pytest.raises(ValueError, match="has no option 'colour'; its options: hidden_size"):
        make_policy(core="gru", core_kwargs={"colour": 3})
    with pytest.raises(ValueError, match="core_kwargs holds 'hidden_size'=3, given besides"):
        make_policy(hidden_size=4, core_kwargs={"hidden_size": 3})


@pytest.mark.parametrize("name", ["features_extractor_kwargs", "optimizer_kwargs"])
def test_unknown_arguments_of_parts_are_told_with_where_they_were_given(name):
    for core in ("plastic", "lstm", "mlp"):
        with pytest.raises(TypeError, match=rf"^{name} do not fit .*'colour'"):
            make_policy(core=core, **{name: {"colour": 3}})


def test_unknown_arguments_of_a_buffer_are_told_with_where_they_were_given():
    with pytest.raises(TypeError, match=r"^rollout_buffer_kwargs do not fit .*'colour'"):
        make(rollout_buffer_kwargs={"colour": 3})


def test_predict_refuses_other_dictionaries():
    class Named(Plain):
        observation_space = spaces.Dict(a=Plain.observation_space, b=spaces.Discrete(2))

        def reset(self, *, seed=None, options=None):
            return self.observation_space.sample(), {}

    model = RecurrentPPO("PlasticPolicy", Named(), n_steps=4)
    for wrong in ({"a": np.zeros(3)}, {"a": 0, "b": 0, "c": 0}, np.zeros(3)):
        with pytest.raises(ValueError, match="observation must be a dictionary of 'a', 'b', got"):
            model.predict(wrong)


def test_predict_takes_the_leaves_of_a_state_in_any_container():
    model = make_policy(core="lstm", hidden_size=8)
    x = np.ones((2, 3), np.float32)
    _, state = model.predict(x)
    expected, _ = model.predict(x, state, deterministic=True)
    for other in (list(state), {"h": state.h, "c": state.c}, tuple(map(torch.as_tensor, state))):
        np.testing.assert_array_equal(model.predict(x, other, deterministic=True)[0], expected)
    wide = [leaf.astype(np.float64) for leaf in state]
    np.testing.assert_array_equal(model.predict(x, wide, deterministic=True)[0], expected)


HISTORY = spaces.Dict(history=spaces.Box(-1, 1, (5, 3)), length=spaces.Box(1, 5, (1,)))
LABELLED = spaces.Dict(
    image=spaces.Box(0, 255, (16, 16, 1), np.uint8), label=spaces.Box(0, 1, (3,))
)


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (lambda: PlasticFeaturesExtractor(HISTORY, features_dim=0), "features_dim must be an int"),
        (lambda: PlasticFeaturesExtractor(HISTORY, features_dim="no"), "features_dim must be"),
        (lambda: PlasticFeaturesExtractor(HISTORY, hidden_size=0), "hidden_size must be an int"),
        (lambda: PlasticFeaturesExtractor(HISTORY, rule=0), "rule must be"),
        (lambda: PlasticFeaturesExtractor(HISTORY, core=[]), "core must be"),
        (lambda: ImageLabelExtractor(LABELLED, features_dim=True), "features_dim must be an int"),
        (lambda: ImageLabelExtractor(LABELLED, features_dim=3), "features_dim must be more than"),
        (lambda: next(make().rollout_buffer.sequences(0)), "steps|envs_per_batch"),
    ],
)
def test_parts_refuse(build, problem):
    with pytest.raises((ValueError, RuntimeError), match=problem):
        build()


BOX, IMAGE = spaces.Box(-1, 1, (3,)), spaces.Box(0, 255, (16, 16, 1), np.uint8)
PARTS = {
    ImageExtractor: {"observation_space": IMAGE, "features_dim": 8},
    DictExtractor: {"observation_space": spaces.Dict(image=IMAGE, label=BOX), "image_features": 8},
    ImageLabelExtractor: {"observation_space": LABELLED, "encoder": "conv4", "filters": 2},
    PlasticFeaturesExtractor: {"observation_space": HISTORY, "hidden_size": 4},
    PlasticPolicy: {
        "observation_space": BOX,
        "action_space": spaces.Discrete(2),
        "lr_schedule": lambda _: 1e-3,
    },
    RecurrentRolloutBuffer: {
        "buffer_size": 4,
        "observation_space": BOX,
        "action_space": spaces.Discrete(2),
        "device": "cpu",
        "gae_lambda": 0.9,
        "gamma": 0.9,
        "n_envs": 2,
    },
    TorchCore: {"module": nn.GRU(3, 4)},
    Feedforward: {"input_size": 3, "hidden_size": 4},
    VectorEnvAdapter: {"env": gym.make_vec("PlasticCopy-v0", 2), "ignored_steps": "show"},
}


@pytest.mark.parametrize(
    ("part", "name"),
    [(part, name) for part, arguments in PARTS.items() for name in arguments],
    ids=lambda value: getattr(value, "__name__", value),
)
@pytest.mark.parametrize("value", [*JUNK, 10**8, "x" * 10**6], ids=lambda v: type(v).__name__)
def test_every_part_works_or_refuses_by_name(part, name, value):
    if name == "lr_schedule" and callable(value):
        return  # what it raises is its own affair
    if part is Feedforward and type(value) is int and value == 10**8:
        return  # it makes a network of that size, as it was told to
    try:
        part(**{**PARTS[part], name: value})
    except (ValueError, TypeError) as error:
        assert re.search(rf"\b{name}\b", str(error))  # noqa: PT017 (either may be)
        assert len(str(error)) < 500  # noqa: PT017


def test_rollouts_have_a_largest_size():
    with pytest.raises(ValueError, match=r"buffer_size=1048576, n_envs=1024 is too large"):
        RecurrentRolloutBuffer(2**20, BOX, spaces.Discrete(2), n_envs=2**10)
    with pytest.raises(ValueError, match=r"n_steps=134217728, n_envs=1 is too large"):
        make(n_steps=2**27)
