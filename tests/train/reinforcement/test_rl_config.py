import json
import math
import re
from dataclasses import MISSING, asdict, fields, replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import Gradient, Hebbian, LSTMCell
from plastic_envs.tasks import Bandit, CueReward
from train.network import NetworkConfig
from train.reinforcement.config import PPOConfig, RLConfig, is_rl_config
from train.settings import from_dict
from train.supervised.config import TrainConfig

CHANGED = RLConfig(
    env="PlasticMaze-v0",
    env_kwargs={"size": 7, "wall_penalty": 0.5},
    previous_action_reward=False,
    network=NetworkConfig(rule="gradient", cell="lstm", rule_settings={"base_eta": 0.3}),
    ppo=PPOConfig(n_steps=7, schedule="constant", learning_rate=1),
    start_from="runs/other",
    deterministic=True,
    seed=2**63 - 1,
    threads=2,
)


@pytest.mark.parametrize("config", [RLConfig(), CHANGED])
def test_settings_come_back_from_json(config):
    text = config.to_json()
    assert RLConfig.from_json(text) == config
    assert is_rl_config(json.loads(text))
    assert not is_rl_config(json.loads(TrainConfig().to_json()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "RLConfig has no setting 'colour'"),
        ({"steps": "many"}, "steps must be an integer of at least 1, got 'many'"),
        ({"steps": True}, "steps must be an integer of at least 1, got True"),
        ({"env_kwargs": [1]}, "env_kwargs must be dict"),
        (
            {"env_kwargs": {"size": [5]}},
            r"env_kwargs\['size'\] must be int",
        ),
        ({"network": {"core": "transformer"}}, "core must be one of 'plastic', 'lstm'"),
        ({"network": 3}, "network: settings of NetworkConfig must be an object, got 3"),
        (
            {"ppo": {"gamma": 2.0}},
            "gamma must be a finite number of at least 0 and of at most 1",
        ),
        ({"kind": "supervised"}, "not the settings of a reinforcement learning run"),
        ({"kind": None}, "not the settings of a reinforcement learning run"),
    ],
)
def test_wrong_settings_in_json_are_named(change, message):
    text = json.dumps(json.loads(RLConfig().to_json()) | change)
    with pytest.raises(ValueError, match=message):
        RLConfig.from_json(text)


def test_settings_are_made_of_numbers_of_all_kinds():
    made = from_dict(RLConfig, {"steps": np.int64(10**6), "ppo": {"gamma": np.float32(0.5)}})
    assert made == RLConfig(steps=10**6, ppo=PPOConfig(gamma=0.5))
    assert (type(made.steps), type(made.ppo.gamma)) == (int, float)
    for ppo in (0, [], None, "\0", {"gamma": 10**400}, {"gamma": Fraction(5, 2)}, {"colour": 1}):
        with pytest.raises(ValueError, match=r"ppo|gamma|colour"):
            from_dict(RLConfig, {"ppo": ppo})


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", TrainConfig().to_json()])
def test_what_are_no_such_settings_is_refused(text):
    with pytest.raises(ValueError, match=r"Expecting|not the settings|must be an object"):
        RLConfig.from_json(text)


def test_settings_left_out_of_json_are_the_defaults():
    text = '{"format": "plastic-run-2", "kind": "reinforcement", "seed": 3}'
    assert RLConfig.from_json(text) == RLConfig(seed=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be an integer of at least 1, got 0"),
        ({"steps": True}, "steps must be an integer of at least 1, got True"),
        ({"num_envs": 0}, "num_envs must be an integer of at least 1 and at most 65536, got 0"),
        ({"eval_every": -1}, "eval_every must be an integer of at least 1, got -1"),
        (
            {"eval_episodes": 1},
            "eval_episodes must be an integer of at least 2 and at most 1048576",
        ),
        ({"eval_max_steps": 0}, "eval_max_steps must be an integer of at least 1, got 0"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"seed": 2**63}, "seed must be an integer of at least 0 and at most 9223372036854775807"),
        ({"threads": 0}, "threads must be an integer of at least 1 and at most 1024, got 0"),
        ({"threads": 10**9}, "threads must be an integer of at least 1 and at most 1024, got 10"),
        ({"num_envs": 3}, "at most num_envs=3 of them, got 4"),
        ({"env": 3}, "env must be str, got 3"),
        ({"previous_action_reward": 1}, "previous_action_reward must be True or False, got 1"),
        ({"deterministic": "no"}, "deterministic must be True or False, got 'no'"),
        ({"network": {}}, "network must be NetworkConfig, got {}"),
        ({"env_kwargs": {3: 3}}, "env_kwargs must be dict"),
        ({"env_kwargs": {"size": math.nan}}, "env_kwargs['size'] must be int | float"),
        ({"env_kwargs": {"num_envs": 3}}, "env_kwargs cannot set num_envs"),
        ({"env_kwargs": {"render_mode": "human"}}, "env_kwargs cannot set render_mode"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        RLConfig(**settings)


BAD = {
    int: (0, -1, 1.0, True, "1", None, 2**70, math.nan),
    float: (-1.0, math.nan, math.inf, 10**400, True, "1", None),
    str: ("absent", "", 1, None, ["plastic"]),
    bool: (0, 1.0, "yes", None),
}


@pytest.mark.parametrize(
    ("kind", "name", "bad"),
    [
        (kind, field.name, bad)
        for kind in (PPOConfig, NetworkConfig)
        for field in fields(kind)
        if field.default_factory is MISSING
        for bad in BAD[type(field.default) if field.default is not None else int]
        if not (field.name == "n_steps" and bad is None)
        if not (field.name == "log_std_init" and bad == -1.0)
    ],
)
def test_every_setting_is_checked(kind, name, bad):
    with pytest.raises(ValueError, match=f"^{name} must be "):
        kind(**{name: bad})


@pytest.mark.parametrize(
    ("env", "kwargs", "n_steps", "expected"),
    [
        ("PlasticBandit-v0", {}, None, 200),  # whole episodes, 128 steps or more
        ("PlasticBandit-v0", {"num_trials": 128}, None, 128),
        ("PlasticBandit-v0", {"num_trials": 129}, None, 129),
        ("PlasticCueReward-v0", {}, None, 140),
        ("PlasticCueReward-v0", {}, 30, 30),
        ("CartPole-v1", {}, None, 128),
    ],
)
def test_rollouts_are_whole_episodes_where_their_length_is_known(env, kwargs, n_steps, expected):
    assert RLConfig(env=env, env_kwargs=kwargs, ppo=PPOConfig(n_steps=n_steps)).n_steps == expected


def evaluations(config):
    """Return the steps of all evaluations."""
    steps = [0]
    while steps[-1] < config.total_steps:
        steps.append(config.next_evaluation(steps[-1]))
    return steps


def test_a_run_ends_with_the_rollout_that_reaches_its_steps():
    config = RLConfig(env="CartPole-v1", num_envs=10, steps=9_000, eval_every=3_000)
    assert config.steps_per_rollout == 1_280
    assert evaluations(config) == [0, 3_840, 6_400, 8_960 + 1_280]
    exact = replace(config, ppo=PPOConfig(n_steps=100))
    assert evaluations(exact) == [0, 3_000, 6_000, 9_000]


def test_a_task_is_named_as_in_supervised_training():
    assert RLConfig(env="target-search").task == RLConfig(env="PlasticTargetSearch-v0").task
    env = RLConfig(env="maze", env_kwargs={"size": 5}).make_vec(2, "test")
    assert env.unwrapped.task.size == 5


@settings(deadline=None)
@given(*(st.integers(1, 5_000) for _ in range(2)), st.integers(2, 50).map(lambda n: 4 * n))
def test_steps_and_evaluations_are_as_often_as_asked_for(steps, every, rollout):
    """Each multiple of `eval_every` is answered by the first rollout that reaches it."""
    config = RLConfig(
        env="CartPole-v1",
        steps=steps,
        eval_every=every,
        num_envs=4,
        ppo=PPOConfig(n_steps=rollout // 4),
    )
    ends = range(0, steps + rollout, rollout)
    wanted = {next(end for end in ends if end >= beat) for beat in range(0, steps + 1, every)}
    assert config.total_steps == ends[-1]
    assert steps <= config.total_steps < steps + rollout
    assert evaluations(config) == sorted(wanted | {ends[-1]})
    assert wanted <= {end for end in ends if config.validates_at(end)}


def test_the_step_size_falls_towards_zero_or_stays():
    config = RLConfig(
        env="CartPole-v1", num_envs=10, steps=4_000, eval_every=1_000, ppo=PPOConfig(n_steps=100)
    )
    rates = [config.learning_rate_at(step) for step in range(0, 4_000, 1_000)]
    assert rates == pytest.approx([1e-3, 0.75e-3, 0.5e-3, 0.25e-3])
    constant = replace(config, ppo=replace(config.ppo, schedule="constant"))
    assert {constant.learning_rate_at(step) for step in range(4)} == {1e-3}


def test_our_tasks_say_what_is_better_and_other_environments_do_not():
    bandit, cue_reward = RLConfig(env_kwargs={"num_arms": 3}), RLConfig(env="PlasticCueReward-v0")
    assert (bandit.task, bandit.higher_is_better) == (Bandit(num_arms=3), True)
    assert (cue_reward.task, cue_reward.higher_is_better) == (CueReward(), False)
    with_module = RLConfig(env="plastic_envs:PlasticCueReward-v0")
    assert (with_module.task, with_module.higher_is_better) == (CueReward(), False)
    foreign = RLConfig(env="CartPole-v1")
    assert (foreign.task, foreign.higher_is_better) == (None, True)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "PlasticBandit-v0-hebbian-rnn-64-seed0"),
        (
            {"env": "some.module:Other-v3", "network": NetworkConfig(core="lstm"), "seed": 4},
            "Other-v3-lstm-128-seed4",
        ),
        (
            {"network": NetworkConfig(core="mlp"), "previous_action_reward": False},
            "PlasticBandit-v0-mlp-128-observation-only-seed0",
        ),
    ],
)
def test_a_run_is_named_by_environment_agent_and_seed(settings, name):
    assert RLConfig(**settings).name == name


def test_settings_of_plasticity_reach_the_policy():
    network = NetworkConfig(rule="gradient", cell="lstm", rule_settings={"base_eta": 0.3})
    kwargs = RLConfig(network=network).policy_kwargs()
    assert kwargs["core"] == "plastic"
    assert isinstance(kwargs["core_kwargs"]["rule"], Gradient)
    assert kwargs["core_kwargs"]["rule"].base_eta == 0.3
    assert isinstance(kwargs["core_kwargs"]["cell"], LSTMCell)
    default = RLConfig().policy_kwargs()["core_kwargs"]
    assert isinstance(default["rule"], Hebbian)
    assert (default["hidden_size"], default["extra_dim"]) == (64, 4)
    lstm = RLConfig(network=NetworkConfig(core="lstm", core_settings={"hidden_size": 9}))
    options = {"hidden_size": 9, "num_layers": 1}
    assert lstm.policy_kwargs() == {"core": "lstm", "core_kwargs": options}


def test_every_setting_is_written():
    assert json.loads(CHANGED.to_json()) == {
        "format": "plastic-run-2",
        "kind": "reinforcement",
        **asdict(CHANGED),
    }


@pytest.mark.parametrize(("num_envs", "sizes"), [(8, [2, 2, 2, 2]), (6, [2, 2, 2]), (5, [2, 2, 1])])
def test_minibatches_are_as_many_as_the_help_says(num_envs, sizes):
    config = RLConfig(num_envs=num_envs)
    size = config.envs_per_minibatch
    made = [min(size, num_envs - start) for start in range(0, num_envs, size)]
    assert made == sizes
    assert len(made) <= config.ppo.minibatches
    assert config.ppo_kwargs()["batch_size"] == size * config.n_steps
