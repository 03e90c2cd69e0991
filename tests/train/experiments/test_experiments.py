"""What the published experiments consist of."""

import json
from dataclasses import replace
from functools import cache
from operator import attrgetter

import pytest

from train.experiments.cost import estimate_seconds, speed
from train.experiments.networks import networks, with_networks
from train.experiments.published import EXPERIMENTS
from train.experiments.published.paper import PAPER
from train.experiments.reports.figures import looks
from train.experiments.sweep import (
    Run,
    differences,
    made,
    vary,
    with_seed,
)
from train.reinforcement.config import RLConfig
from train.runs.run_folder import RunFolder
from train.settings import changed, flat
from train.supervised.config import TrainConfig

PLACES = [(name, budget) for name in EXPERIMENTS for budget in EXPERIMENTS[name].budgets]


@cache
def runs_of(name, budget="paper"):
    return EXPERIMENTS[name].runs(budget)


def values_of(name, setting, budget="paper"):
    return {flat(run.config)[setting] for run in runs_of(name, budget)}


@pytest.mark.parametrize(("name", "budget"), PLACES)
def test_every_run_has_its_own_folder_and_is_made_of_what_differs(name, budget):
    runs = runs_of(name, budget)
    assert len({run.name for run in runs}) == len(runs) > 0
    seeds = {run.config.seed for run in runs}
    assert len(seeds) == {"paper": 4, "laptop": 3, "smoke": 2}[budget] or name == "demo"
    assert all(run.config.threads == 1 for run in runs)
    for run in runs:
        if run.config.seed != min(seeds):
            continue  # alike but for the seed
        settings = {**differences(run.config), **{k: each.name for k, each in run.first.items()}}
        assert made(EXPERIMENTS[name].kind, settings) == run.config


def test_every_network_is_built():
    kinds = {}
    for name, budget in PLACES:
        for run in runs_of(name, budget) if EXPERIMENTS[name].kind is TrainConfig else ():
            for config in (run.config, *(each.config for each in run.first.values())):
                names = ("core", "encoder") if config.task == "few-shot" else ("rule", "cell")
                what = attrgetter(*names)(config.network)
                kinds.setdefault((config.task, *what), config)
    for config in kinds.values():
        small = changed(config, {"network.filters": 4} if config.task == "few-shot" else {})
        small.network.build(small.task_for("train"), 0)
    assert {kind[2] for kind in kinds} == {"rnn", "lstm", None, "conv4", "resnet12"}


@pytest.mark.parametrize(("name", "budget"), PLACES)
def test_runs_have_what_their_point_says_whatever_the_budget_sets(name, budget):
    axes = {axis.name: axis for axis in EXPERIMENTS[name].kept_axes(budget)}
    for run in runs_of(name, budget):
        settings = flat(run.config)
        assert run.point.keys() == axes.keys()
        for axis, label in run.point.items():
            for setting, expected in axes[axis].points[label].items():
                assert settings[setting] == expected


def networks_of(name):
    networks = [run.config.network for run in runs_of(name)]
    return {(net.rule, net.cell, net.core_settings["hidden_size"]) for net in networks}


def test_settings_of_the_paper():
    assert values_of("cue-reward", "steps") == {20_000}
    assert values_of("copy", "steps") == values_of("regression", "steps") == {10_000}
    assert values_of("few-shot", "steps") == {40_000}
    assert values_of("few-shot", "weight_decay") == {5e-4}
    sizes = {"rnn": 256, "lstm": 128}
    for name, factor in (("cue-reward", 1), ("copy", 1), ("regression", 1), ("few-shot", 2)):
        assert networks_of(name) == {
            (rule, cell, factor * size * (3 if rule == "none" else 2) // 2)
            for rule in ("gradient", "hebbian", "none")
            for cell, size in sizes.items()
        }
        assert values_of(name, "learning_rate") == {1e-3}
        for setting, value in (("base_eta", 0.1), ("base_decay", 0.1), ("max_norm", 1.0)):
            assert values_of(name, f"network.rule_settings.{setting}") == {value}
        assert values_of(name, "network.core_settings.extra_dim") == {4}
        assert values_of(name, "schedule") == {"cosine" if name == "few-shot" else "constant"}
    for name in (experiment.name for experiment in PAPER):
        assert values_of(name, "batch_size") == {64}
        assert values_of(name, "max_grad_norm") == {5}


@pytest.mark.parametrize(
    ("name", "setting", "expected"),
    [
        ("cue-reward-learning-rate", "learning_rate", {0.01, 0.001, 0.0003}),
        (
            "cue-reward-base-rate",
            "network.rule_settings.base_eta",
            {0, 0.025, 0.05, 0.1, 0.2},
        ),
        (
            "cue-reward-base-rate",
            "network.rule_settings.base_decay",
            {0, 0.025, 0.05, 0.1, 0.2},
        ),
        ("cue-reward-extra-dim", "network.core_settings.extra_dim", {0, 4, 8, 16}),
        ("cue-reward-modulation", "network.rule_settings.modulation", {True, False}),
        (
            "cue-reward-alpha",
            "network.rule_settings.alpha",
            {"random", "ones", "minus_ones", "off"},
        ),
        ("cue-reward-frozen", "network.core_settings.freeze_slow_weights", {True, False}),
        ("cue-reward-frozen", "network.rule_settings.alpha", {"random", "ones", "minus_ones"}),
        ("cue-reward-noise", "task_settings.noise", {0.1, 0.5}),
        ("copy", "task_settings.delay", {0, 20, 40}),
        ("copy", "task_settings.length", {20}),
        ("copy-delay", "task_settings.delay", {0, 10, 20, 40, 60}),
        ("copy-delay", "task_settings.length", {5}),
        ("copy-length", "task_settings.length", {5, 10, 20, 30, 40}),
        ("copy-length", "task_settings.delay", {0}),
        ("copy-modulation", "network.rule_settings.modulation", {True, False}),
        ("copy-max-norm", "network.rule_settings.max_norm", {1, 100}),
        ("copy-weight-clip", "network.rule_settings.weight_clip", {0.01, 0.1, 1}),
        ("regression", "task_settings.kind", {"linear", "mlp"}),
        ("regression", "task_settings.num_support", {10, 20}),
        ("regression-modulation", "network.rule_settings.modulation", {True, False}),
        ("few-shot", "network.encoder", {"conv4", "resnet12"}),
    ],
)
def test_what_the_paper_varies(name, setting, expected):
    assert values_of(name, setting) == expected


def test_experiments_share_the_runs_that_they_have_in_common():
    main = {run.name for run in runs_of("cue-reward")}
    assert main <= {run.name for run in runs_of("cue-reward-learning-rate")}
    assert main <= {run.name for run in runs_of("cue-reward-noise")}


def test_the_folder_depends_on_settings_and_not_on_what_is_the_default():
    run = runs_of("cue-reward", "smoke")[0]
    other = replace(run, config=replace(run.config, learning_rate=0.5))
    assert other.name != run.name
    assert replace(run, point={"other": "label"}).name == run.name
    firsts = [Run({}, TrainConfig(steps=steps)) for steps in (3, 4)]
    encoders = [replace(run, first={"encoder_run": first}).name for first in firsts]
    assert len({run.name, *encoders}) == 3
    seeds = [with_seed(run, seed).name for seed in (0, 1)]
    assert [name.rpartition("-")[0] for name in seeds] == [run.name.rpartition("-")[0]] * 2


def test_seeds_come_last_so_that_early_results_cover_all_points():
    runs = runs_of("copy", "laptop")
    assert [run.config.seed for run in runs] == sorted(run.config.seed for run in runs)


def test_where_images_come_from_reaches_network_and_encoder():
    settings = {"task_settings.source": "omniglot", "task_settings.root": "data"}
    for run in EXPERIMENTS["few-shot"].runs("laptop", settings):
        [encoder] = run.first.values()
        for config in (run.config, encoder.config):
            assert config.task_settings["source"] == "omniglot"
            assert config.task_settings["root"] == "data"
        assert encoder.config.seed == run.config.seed
        assert run.config.encoder_run == encoder.name


def test_settings_are_given_by_dotted_names():
    config = made(
        TrainConfig,
        {
            "steps": 3,
            "network.rule": "hebbian",
            "network.rule_settings.max_norm": 2,
            "task": "copy",
        },
    )
    assert (config.steps, config.network.rule) == (3, "hebbian")
    assert config.network.rule_settings["max_norm"] == 2
    assert differences(config) == {
        "task": "copy",
        "steps": 3,
        "network.rule": "hebbian",
        "network.rule_settings.max_norm": 2,
    }


@pytest.mark.parametrize("name", ["stepz", "network.rulez", "network.rule_settings.etas"])
def test_a_setting_that_does_not_exist_is_refused(name):
    with pytest.raises(ValueError, match=name.rpartition(".")[2]):
        made(TrainConfig, {name: 1})


def test_axes():
    axis = vary(
        "rate", (0.1, 0.2), "network.rule_settings.base_eta", "network.rule_settings.base_decay"
    )
    assert axis.points["0.2"] == {
        "network.rule_settings.base_eta": 0.2,
        "network.rule_settings.base_decay": 0.2,
    }
    assert list(axis.only(["0.2"]).points) == ["0.2"]
    with pytest.raises(ValueError, match=r"rate must be one of 0.1, 0.2, got '3'"):
        axis.only(["3"])
    assert list(networks({"lstm": 10}).points) == ["gradient-lstm", "hebbian-lstm", "none-lstm"]
    assert networks({"lstm": 10}).points["none-lstm"]["network.core_settings.hidden_size"] == 15


def test_networks_are_named_for_people_and_whatever_they_are():
    axis = networks({"lstm": 128}, ("hebbian", "none", "my_rules:Decay"))
    titles = [axis.title(label) for label in axis.only(axis.points).points]
    assert titles == ["Hebbian LSTM 128", "no plasticity, LSTM 192", "my_rules:Decay LSTM 128"]
    assert axis.title("other") == "other"


def test_lines_look_alike_where_networks_do():
    found = looks(["oja-rnn", "oja-gru", "none-rnn", "lstm", "mlp-last", "mlp"])
    colors = [look["color"] for look in found.values()]
    assert colors == ["C0", "C0", "C1", "C2", "C3", "C3"]
    styles = [look["ls"] for look in found.values()]
    assert styles[0] == styles[2] != styles[1]
    assert len(set(styles)) == 4


def test_an_experiment_has_its_own_budgets():
    with pytest.raises(ValueError, match="budget of demo must be one of 'laptop', 'smoke'"):
        runs_of("demo", "paper")


def test_a_lesson_is_like_the_run_that_it_is_before():
    for run in runs_of("rl-target-search", "laptop"):
        lesson = run.first["start_from"].config
        assert lesson.network == run.config.network
        assert lesson.previous_action_reward == run.config.previous_action_reward
        assert (lesson.env_kwargs["num_cues"], lesson.seed) == (2, run.config.seed)
        assert run.config.start_from == run.first["start_from"].name


@pytest.mark.parametrize(("budget", "share"), [("paper", 6), ("laptop", 6), ("smoke", 1)])
def test_agents_with_associative_memories_take_fewer_steps(budget, share):
    runs = {run.point["network"]: run.config for run in runs_of("rl-cue-reward", budget)}
    attention, lstm = runs["attention"], runs["lstm"]
    assert (attention.steps * share, attention.eval_every * share) == (lstm.steps, lstm.eval_every)
    units = lstm.network.core_settings["hidden_size"]
    assert attention.network.core_settings["embedding"] == units


def test_agents_roll_out_whole_episodes():
    for name, budget in PLACES:
        for run in runs_of(name, budget) if EXPERIMENTS[name].kind is RLConfig else ():
            for config in (run.config, *(each.config for each in run.first.values())):
                if not config.env.startswith("popgym"):
                    assert config.n_steps % config.task.num_steps == 0


def test_networks_are_added_to_an_experiment_whose_own_have_no_size():
    with_more = with_networks(EXPERIMENTS["few-shot-memories"], ["gru", "oja-rnn", "label-mesa"])
    points = with_more.budgets["laptop"].networks.points
    hidden = "network.core_settings.hidden_size"
    assert points["gru"] == {"network.core": "gru", hidden: 128}
    assert points["oja-rnn"][hidden] == 128
    assert points["label-mesa"]["network.core_settings.noise"] == 0.5


@pytest.mark.parametrize("name", ["few-shot-methods", "few-shot-memories"])
def test_all_few_shot_methods_have_the_encoder_of_their_seed(name):
    runs = [
        run for run in runs_of(name, "laptop") if not run.point["network"].endswith("end-to-end")
    ]
    assert len({run.first["encoder_run"].name for run in runs}) == 3
    ready = [run.config for run in runs if run.point["network"] == "prototypical"]
    assert {(config.steps, config.fine_tune) for config in ready} == {(0, True)}
    assert all(
        config.steps and config.frozen for config in (r.config for r in runs) if config not in ready
    )


def test_estimates_grow_with_what_makes_runs_long():
    config = TrainConfig(steps=1_000)
    base = estimate_seconds(config)
    assert 30 < base < 300
    settings = [
        {"steps": 2_000},
        {"batch_size": 128},
        {"network.core_settings.hidden_size": 256},
        {"network.core_settings.extra_dim": 400},
        {"network.cell": "lstm"},
        {"network.rule_settings.weight_clip": 1.0},
        {"eval_every": 1},
    ]
    for each in settings:
        assert estimate_seconds(changed(config, each)) > 1.2 * base, each
    for other in ({"network.rule": "none"}, {"network.core": "gru"}):
        assert estimate_seconds(changed(config, other)) < base


def test_the_speed_of_the_machine_is_read_from_long_runs(tmp_path):
    config = TrainConfig(steps=10_000)
    folder = RunFolder(tmp_path)
    assert speed([(folder, config)]) == 1
    half = {"step": 5_000, "seconds": estimate_seconds(config)}
    folder.timing_path.write_text(json.dumps(half) + "\n")
    assert speed([(folder, config)]) == pytest.approx(2, rel=0.05)
