import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plastic_envs.tasks import CueReward
from train.network import NetworkConfig
from train.supervised.config import TrainConfig


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
            {"task": "copy", "task_settings": {"length": 3, "delay": 2}},
            {"task": "PlasticCopy-v0"},
            {"task": "plastic_envs.tasks.sequences.copy:Copy", "task_settings": {"length": 3}},
            {"task": "cue-reward", "task_settings": {"noise": 0.25}},
            {"task": "regression", "task_settings": {"kind": "mlp", "input_size": 3}},
            {"task": "few-shot", "task_settings": {"n_way": 3, "source": "arrays", "root": "a b"}},
            {"task": "few-shot", "schedule": "cosine", "task_settings": {"augment": True}},
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
    rates = {"base_eta": base_eta, "weight_clip": weight_clip, "modulation": modulation}
    network = NetworkConfig(rule=rule, cell=cell, rule_settings=rates)
    config = TrainConfig(
        network=network, learning_rate=learning_rate, seed=seed, threads=threads, **task
    )
    assert TrainConfig.from_json(config.to_json()) == config


def test_test_episodes_alone_are_of_their_own_settings():
    config = TrainConfig(
        task="copy", task_settings={"length": 3, "delay": 2}, test_settings={"delay": 9}
    )
    delays = {split: config.task_for(split).delay for split in ("train", "validation", "test")}
    assert delays == {"train": 2, "validation": 2, "test": 9}
    assert config.task_for("test").length == 3
    assert config.make_vec(2, "test").unwrapped.task.delay == 9
    assert TrainConfig.from_json(config.to_json()) == config
    for odd, match in (({"dely": 9}, "has no setting 'dely'"), ({"delay": "9"}, "delay must")):
        with pytest.raises(ValueError, match=match):
            replace(config, test_settings=odd)


@pytest.mark.parametrize("core", ["lstm", "gru", "rnn", "mlp", "prototypical"])
def test_settings_of_other_cores_survive_json_and_have_no_rule_and_cell(core):
    config = TrainConfig(task="few-shot", network=NetworkConfig(core=core))
    assert TrainConfig.from_json(config.to_json()) == config
    assert (config.network.rule, config.network.rule_settings) == (None, {})
    assert (config.network.cell, config.network.cell_settings) == (None, {})


def test_the_settings_of_the_chosen_parts_are_all_written():
    config = TrainConfig(task="copy", network=NetworkConfig(core="gru"))
    written = json.loads(config.to_json())
    assert written["task_settings"] == {"length": 20, "dim": 1, "delay": 0}
    assert written["network"]["core_settings"] == {"hidden_size": 128, "num_layers": 1}


def test_images_are_not_read_before_the_task_is_made():
    config = TrainConfig(task="few-shot", task_settings={"source": "omniglot", "root": "/nowhere"})
    assert "split" not in config.task_settings
    with pytest.raises(FileNotFoundError, match="nowhere"):
        config.task_for("train")


@pytest.mark.parametrize("encoder", ["conv4", "resnet12"])
@pytest.mark.parametrize("core", ["plastic", "prototypical"])
def test_the_settings_of_an_image_network_survive_json(encoder, core):
    network = NetworkConfig(encoder=encoder, core=core, filters=7, rectify=True)
    config = TrainConfig(task="few-shot", network=network)
    assert TrainConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("learning_speed", 1, "learning_speed"),
        ("network.layers", 2, "layers"),
        ("network.rule_settings.rate", 2, "rate"),
        ("task_settings.colour", "red", "colour"),
    ],
)
def test_an_unknown_setting_is_named(path, value, named):
    with pytest.raises(ValueError, match=named):
        TrainConfig.from_json(changed(TrainConfig(), path, value))


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("network", "NetworkConfig"),
        ("network.rule_settings", "rule_settings"),
        ("task_settings", "task_settings"),
    ],
)
@pytest.mark.parametrize("value", [3, None, "text", []])
def test_a_number_in_place_of_a_group_of_settings_is_refused(path, named, value):
    with pytest.raises(ValueError, match=named):
        TrainConfig.from_json(changed(TrainConfig(), path, value))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"text"'])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(ValueError, match=r"must be an object|Expecting"):
        TrainConfig.from_json(text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"task": "copi"},
            r"task must be one of .*'copy', .*'module:name', got 'copi' \(did you mean",
        ),
        ({"task": "bandit"}, "plastic train-rl --env PlasticBandit-v0"),
        (
            {"task_settings": {"delay": 3}},
            "task cue-reward has no setting 'delay'; its settings: num",
        ),
        ({"task_settings": {"nois": 3}}, r"no setting 'nois' \(did you mean noise\?\)"),
        ({"task_settings": {"num_cues": 2.5}}, r"num_cues must be an integer .* got 2.5"),
        ({"task_settings": {"split": "test"}}, "no setting 'split'"),
        ({"task_settings": {"noise": float("inf")}}, "noise must be a finite number"),
    ],
)
def test_a_task_or_its_settings_that_do_not_exist_are_told(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"core": "transformer"}, "core must be one of 'plastic', 'lstm'"),
        ({"rule": "heb"}, r"got 'heb' \(did you mean hebbian\?\)"),
        ({"cell": "lstn"}, r"got 'lstn' \(did you mean lstm\?\)"),
        (
            {"core_settings": {"hiden_size": 3}},
            r"core plastic has no setting 'hiden_size' \(did you",
        ),
        ({"core": "gru", "core_settings": {"extra_dim": 3}}, "core gru has no setting 'extra_dim'"),
        ({"rule_settings": {"alpha": "twos"}}, "alpha must be one of 'random', .* got 'twos'"),
        ({"core": "gru", "rule_settings": {"base_eta": 1.0}}, "core gru is made without a rule"),
        ({"rule": None}, "rule must be given: core plastic"),
        ({"cell_settings": {"gates": 2}}, "cell rnn has no setting 'gates'; its settings: none"),
    ],
)
def test_parts_of_a_network_that_do_not_exist_are_told(settings, message):
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**settings)


def test_the_defaults_are_those_of_the_paper():
    config = TrainConfig()
    assert (config.batch_size, config.learning_rate, config.weight_decay) == (64, 1e-3, 0)
    assert (config.max_grad_norm, config.loss_on) == (5, "task")
    assert config.network.core_settings["extra_dim"] == 4
    assert config.network.rule_settings == {
        "base_eta": 0.1,
        "base_decay": 0.1,
        "max_norm": 1,
        "weight_clip": None,
        "modulation": True,
        "alpha": "random",
    }
    task = CueReward(num_cues=5, cue_size=14, noise=0.1, episode_length=20)
    assert config.task_for("train") == task
    assert config.loss_steps == "all"
    assert TrainConfig(task="copy").loss_steps == "scored"
    assert TrainConfig(task="regression").loss_steps == "scored"
    assert TrainConfig(task="few-shot").loss_steps == "scored"
    assert config.schedule == "constant"
    few_shot = TrainConfig(task="few-shot").task_settings
    assert [few_shot[name] for name in ("n_way", "k_shot", "n_query")] == [5, 1, 5]
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
    ("name", "value"), [("encoder", "resnet12"), ("filters", 32), ("rectify", True)]
)
def test_settings_of_image_networks_are_for_images(task, name, value):
    network = NetworkConfig(**{name: value})
    config = TrainConfig(task=task, network=network)
    with pytest.raises(ValueError, match=f"{name}={value!r} is set, but the task has no images"):
        network.build(config.task_for("train"), 0)
    flat = TrainConfig(task="few-shot", task_settings={"flat": True}, network=network)
    with pytest.raises(ValueError, match=f"{name}={value!r} is set, but the task has no images"):
        network.build(flat.task_for("train"), 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fine_tune": True}, "run as encoder_run"),
        ({"task": "copy", "fine_tune": True}, "run as encoder_run"),
        (
            {"encoder_run": "a", "task_settings": {"augment": True}},
            "--augment. needs fine_tune",
        ),
        (
            {"encoder_run": "a", "task_settings": {"distort": True}},
            "--distort. needs fine_tune",
        ),
    ],
)
def test_settings_of_the_encoder_run_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**{"task": "few-shot", **settings})


@pytest.mark.parametrize(
    "settings",
    [{"task_settings": {"augment": True}}, {"network": NetworkConfig(core="prototypical")}],
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
        ("network.core", "none"),
        ("network.filters", 2.5),
        ("network.rectify", 1),
        ("task_settings.source", 3),
        ("task_settings.root", 3),
        ("task_settings.augment", "yes"),
        ("device", "tpu"),
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
    assert config.make_vec(2, "test").unwrapped.task.split == "test"


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


def test_without_plasticity_slow_weights_are_not_frozen():
    network = NetworkConfig(rule="none", core_settings={"freeze_slow_weights": True})
    with pytest.raises(ValueError, match="nothing to learn"):
        network.build(TrainConfig(task="copy").task_for("train"), 0)
    with pytest.raises(ValueError, match="core prototypical has no setting 'freeze_slow_weights'"):
        NetworkConfig(core="prototypical", core_settings={"freeze_slow_weights": True})


def test_a_prototypical_network_is_told_of_late_labels():
    task = TrainConfig(task="few-shot", task_settings={"label_mode": "delayed"}).task_for("train")
    with pytest.raises(ValueError, match=r"delayed must be True \(--delayed\)"):
        NetworkConfig(core="prototypical").build(task, 0)
    late = NetworkConfig(core="prototypical", core_settings={"delayed": True})
    assert late.build(task, 0).delayed


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "cue-reward-gradient-rnn-128-seed0"),
        (
            {"task": "plastic_envs.tasks:Copy", "seed": 3},
            "Copy-gradient-rnn-128-seed3",
        ),
        ({"network": NetworkConfig(core="gru")}, "cue-reward-gru-128-seed0"),
        ({"network": NetworkConfig(core="prototypical")}, "cue-reward-prototypical-conv4-64-seed0"),
    ],
)
def test_a_run_is_named_by_its_parts(settings, name):
    assert TrainConfig(**settings).name == name
