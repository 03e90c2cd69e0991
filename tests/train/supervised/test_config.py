import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.plastic.rules import RuleSettings
from plastic_envs.tasks import Copy, CueReward, Regression
from train.supervised.config import FewShotConfig, NetworkConfig, TrainConfig


def changed(config, path, value):
    """The JSON of a configuration with one entry set, by its dotted path."""
    data = json.loads(config.to_json())
    *parents, name = path.split(".")
    entry = data
    for parent in parents:
        entry = entry[parent]
    entry[name] = value
    return json.dumps(data)


@settings(max_examples=50, deadline=None)
@given(
    rule=st.sampled_from(["gradient", "hebbian", "none"]),
    cell=st.sampled_from(["rnn", "lstm"]),
    base_eta=st.floats(0, 10),
    weight_clip=st.none() | st.floats(0.01, 10),
    modulation=st.booleans(),
    task=st.sampled_from(
        [
            {"task": "copy", "copy": Copy(length=3, delay=2)},
            {"task": "cue-reward", "cue_reward": CueReward(noise=0.25)},
            {"task": "regression", "regression": Regression(kind="mlp")},
            {"task": "regression", "regression": Regression(input_size=3)},
            {"task": "few-shot", "few_shot": FewShotConfig(n_way=3, source="arrays", root="a b")},
            {"task": "few-shot", "schedule": "cosine", "few_shot": FewShotConfig(augment=True)},
            {"task": "few-shot", "encoder_run": "runs/π", "fine_tune": True},
        ]
    ),
    learning_rate=st.floats(1e-6, 1),
    seed=st.integers(0, 2**40),
    threads=st.none() | st.integers(1, 8),
)
def test_settings_survive_json(
    rule, cell, base_eta, weight_clip, modulation, task, learning_rate, seed, threads
):
    rates = RuleSettings(base_eta=base_eta, weight_clip=weight_clip, modulation=modulation)
    network = NetworkConfig(rule=rule, cell=cell, plasticity=rates)
    config = TrainConfig(
        network=network, learning_rate=learning_rate, seed=seed, threads=threads, **task
    )
    assert TrainConfig.from_json(config.to_json()) == config


def test_settings_of_other_tasks_are_not_written():
    tasks = {"copy", "cue_reward", "few_shot", "regression"}
    for task in ("regression", "few-shot"):
        written = json.loads(TrainConfig(task=task).to_json())
        assert tasks & written.keys() == {task.replace("-", "_")}


@pytest.mark.parametrize("encoder", ["conv4", "resnet12"])
@pytest.mark.parametrize("model", ["plastic", "prototypical"])
def test_the_settings_of_an_image_network_survive_json(encoder, model):
    network = NetworkConfig(encoder=encoder, model=model, filters=7, rectify=True)
    config = TrainConfig(task="few-shot", network=network)
    assert TrainConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("learning_speed", 1, "learning_speed"),
        ("network.layers", 2, "layers"),
        ("network.plasticity.rate", 2, "rate"),
        ("cue_reward.colour", "red", "colour"),
    ],
)
def test_an_unknown_setting_is_named(path, value, named):
    with pytest.raises(ValueError, match=named):
        TrainConfig.from_json(changed(TrainConfig(), path, value))


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("network", "NetworkConfig"),
        ("network.plasticity", "RuleSettings"),
        ("cue_reward", "CueReward"),
    ],
)
@pytest.mark.parametrize("value", [3, None, "text", []])
def test_a_number_in_place_of_a_group_of_settings_is_refused(path, named, value):
    with pytest.raises(ValueError, match=named):
        TrainConfig.from_json(changed(TrainConfig(), path, value))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"text"'])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(ValueError, match=r"TrainConfig|Expecting"):
        TrainConfig.from_json(text)


@pytest.mark.parametrize(
    ("task", "others"),
    [
        ("copy", {"cue_reward": CueReward(noise=0.2)}),
        ("cue-reward", {"regression": Regression(kind="mlp")}),
        ("regression", {"copy": Copy(length=3)}),
        ("few-shot", {"copy": Copy(length=3)}),
        ("copy", {"few_shot": FewShotConfig(n_way=3)}),
    ],
)
def test_settings_of_another_task_are_refused(task, others):
    [name] = others
    expected = rf"\w+=.* of {name.replace('_', '-')} is set, but the task is '{task}'"
    with pytest.raises(ValueError, match=expected):
        TrainConfig(task=task, **others)


def test_the_defaults_are_those_of_the_paper():
    config = TrainConfig()
    assert (config.batch_size, config.learning_rate, config.weight_decay) == (64, 1e-3, 0)
    assert (config.max_grad_norm, config.loss_on) == (5, "task")
    assert config.network.extra_dim == 4
    assert config.network.plasticity == RuleSettings(
        base_eta=0.1, base_decay=0.1, max_norm=1, weight_clip=None, modulation=True, alpha="random"
    )
    assert config.cue_reward == CueReward(num_cues=5, cue_size=14, noise=0.1, episode_length=20)
    assert config.loss_steps == "all"
    assert TrainConfig(task="copy").loss_steps == "scored"
    assert TrainConfig(task="regression").loss_steps == "scored"
    assert TrainConfig(task="few-shot").loss_steps == "scored"
    assert config.schedule == "constant"
    few_shot = config.few_shot
    assert (few_shot.n_way, few_shot.k_shot, few_shot.n_query) == (5, 1, 5)
    assert (config.network.encoder, config.network.filters) == ("conv4", 64)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("eval_every", 0),
        ("eval_episodes", 0),
        ("steps", -1),
        ("seed", -1),
        ("weight_decay", -0.1),
        ("learning_rate", 0.0),
        ("learning_rate", -1.0),
        ("learning_rate", float("nan")),
        ("max_grad_norm", 0.0),
        ("threads", 0),
        ("task", "juggling"),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_value(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*got '?{value}"):
        replace(TrainConfig(), **{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("loss_on", "some"), ("steps", "many"), ("steps", 2.5)]
)
def test_a_setting_of_another_type_or_choice_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        TrainConfig.from_json(changed(TrainConfig(), name, value))


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 0), ("seed", 0), ("weight_decay", 0.0), ("threads", 1)]
)
def test_the_edge_of_a_range_is_allowed(name, value):
    assert getattr(replace(TrainConfig(), **{name: value}), name) == value


@pytest.mark.parametrize("task", ["copy", "cue-reward", "few-shot", "regression"])
@pytest.mark.parametrize("loss_on", ["scored", "all"])
def test_the_choice_of_loss_steps_overrules_the_task(task, loss_on):
    assert TrainConfig(task=task, loss_on=loss_on).loss_steps == loss_on


@pytest.mark.parametrize("task", ["copy", "cue-reward", "regression"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("model", "prototypical"), ("encoder", "resnet12"), ("filters", 32), ("rectify", True)],
)
def test_settings_of_image_networks_are_for_images(task, name, value):
    network = NetworkConfig(**{name: value})
    with pytest.raises(ValueError, match=f"{name}={value!r} is set, but the task has no images"):
        TrainConfig(task=task, network=network)
    assert getattr(TrainConfig(task="few-shot", network=network).network, name) == value


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "copy", "encoder_run": "runs/a"}, "encoder_run='runs/a', but .* no images"),
        ({"fine_tune": True}, "run as encoder_run"),
        ({"task": "copy", "fine_tune": True}, "run as encoder_run"),
        (
            {"encoder_run": "a", "few_shot": FewShotConfig(augment=True)},
            "--augment. needs fine_tune",
        ),
        (
            {"encoder_run": "a", "network": NetworkConfig(model="prototypical")},
            "nothing to train",
        ),
    ],
)
def test_settings_of_the_encoder_run_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**{"task": "few-shot", **settings})


@pytest.mark.parametrize(
    "settings",
    [{"few_shot": FewShotConfig(augment=True)}, {"network": NetworkConfig(model="prototypical")}],
)
def test_a_fine_tuned_encoder_may_be_augmented_and_prototypical(settings):
    config = TrainConfig(task="few-shot", encoder_run="a", fine_tune=True, **settings)
    assert not config.frozen


@pytest.mark.parametrize("task", ["copy", "few-shot"])
@pytest.mark.parametrize("filters", [0, -1])
def test_filters_out_of_range_are_named_with_their_value(task, filters):
    with pytest.raises(
        ValueError, match=f"filters must be .* at least 1 and at most 4096, got {filters}"
    ):
        TrainConfig(task=task, network=NetworkConfig(filters=filters))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("network.encoder", "vit"),
        ("network.model", "none"),
        ("network.filters", 2.5),
        ("network.rectify", 1),
        ("few_shot.source", "web"),
        ("few_shot.root", 3),
        ("few_shot.augment", "yes"),
        ("schedule", "linear"),
        ("encoder_run", 3),
    ],
)
def test_an_image_setting_of_another_type_or_choice_is_named(path, value):
    with pytest.raises(ValueError, match=f"{path.split('.')[-1]} must be .*got {value!r}"):
        TrainConfig.from_json(changed(TrainConfig(task="few-shot"), path, value))


def test_splits_differ_in_their_classes_and_training_alone_is_augmented(make_config):
    config = make_config("few-shot", augment=True)
    tasks = {split: config.task_for(split) for split in ("train", "validation", "test")}
    assert {split: task.split for split, task in tasks.items()} == {s: s for s in tasks}
    assert {split: task.augment for split, task in tasks.items()} == {
        "train": True,
        "validation": False,
        "test": False,
    }
    assert config.task_kwargs("test")["split"] == "test"


@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_the_step_size_falls_from_all_of_it_to_nearly_nothing(steps):
    config = TrainConfig(steps=steps, schedule="cosine", learning_rate=0.5)
    sizes = [config.learning_rate_at(step) for step in range(steps)]
    assert sizes[0] == 0.5
    assert sizes == sorted(sizes, reverse=True)
    assert 0 < sizes[-1] <= 0.5 * 2.5 / steps**2 or steps == 1
    assert config.learning_rate_at(steps) == pytest.approx(0, abs=1e-12)
    constant = TrainConfig(steps=steps, learning_rate=0.5)
    assert {constant.learning_rate_at(step) for step in range(steps)} == {0.5}


@pytest.mark.parametrize("rule", ["gradient", "hebbian"])
def test_frozen_slow_weights_stay_and_plasticity_learns(rule, make_run):
    run = make_run(rule=rule, freeze_slow_weights=True)
    config = run.config()
    begin = config.network.build(config.task_for("train"), config.seed).state_dict()
    end = run.load_checkpoint("last")["network"]
    changed = {name for name in begin if not begin[name].equal(end[name])}
    assert changed
    assert all(name.endswith("_alpha") or name == "output_weight" for name in changed)


@pytest.mark.parametrize(
    ("task", "network"),
    [
        ("copy", NetworkConfig(rule="none", freeze_slow_weights=True)),
        ("few-shot", NetworkConfig(model="prototypical", freeze_slow_weights=True)),
    ],
)
def test_without_plasticity_slow_weights_are_not_frozen(task, network):
    with pytest.raises(ValueError, match="nothing to learn"):
        TrainConfig(task=task, network=network)
