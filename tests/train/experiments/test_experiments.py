"""What the published experiments consist of."""

import json
from dataclasses import replace
from itertools import product
from operator import attrgetter
from typing import get_args

import pytest

from agents.plastic.rules import RuleSettings
from train.experiments.cost import estimate_seconds, speed
from train.experiments.published import EXPERIMENTS
from train.experiments.sweep import (
    BudgetName,
    differences,
    network_title,
    networks,
    vary,
    with_settings,
)
from train.runs.run_folder import RunFolder
from train.supervised.config import NetworkConfig, TrainConfig

BUDGETS = get_args(BudgetName)


def runs_of(name, budget="paper"):
    return EXPERIMENTS[name].runs(budget)


def values_of(name, *path, budget="paper"):
    found = set()
    for run in runs_of(name, budget):
        value = run.config
        for part in path:
            value = getattr(value, part)
        found.add(value)
    return found


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_run_has_its_own_folder_and_builds_its_network(name, budget):
    runs = runs_of(name, budget)
    assert len({run.name for run in runs}) == len(runs) > 0
    seeds = {run.config.seed for run in runs}
    assert len(seeds) == {"paper": 4, "laptop": 3, "smoke": 2}[budget]
    assert all(run.config.threads == 1 for run in runs)


def test_every_network_is_built():
    tried = set()
    for name, budget in product(EXPERIMENTS, BUDGETS):
        for run in runs_of(name, budget):
            for config in filter(None, (run.config, run.encoder)):
                what = attrgetter("model", "rule", "cell", "encoder")(config.network)
                if (config.task, *what) not in tried:
                    tried.add((config.task, *what))
                    config.network.build(config.task_for("train"), 0)
    assert {kind[3] for kind in tried} == {"rnn", "lstm"}
    assert {kind[4] for kind in tried} == {"conv4", "resnet12"}


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_runs_have_what_their_point_says_whatever_the_budget_sets(name, budget):
    axes = {axis.name: axis for axis in EXPERIMENTS[name].kept_axes(budget)}
    for run in runs_of(name, budget):
        assert run.point.keys() == axes.keys()
        for axis, label in run.point.items():
            for setting, expected in axes[axis].points[label].items():
                if setting != "network.plasticity":  # of which single settings may be changed
                    assert attrgetter(setting)(run.config) == expected


def networks_of(name):
    networks = [run.config.network for run in runs_of(name)]
    return {(network.rule, network.cell, network.hidden_size) for network in networks}


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
        assert values_of(name, "network", "plasticity") == {RuleSettings()}
        assert values_of(name, "network", "extra_dim") == {4}
        assert values_of(name, "schedule") == {"cosine" if name == "few-shot" else "constant"}
    for name in EXPERIMENTS:
        assert values_of(name, "batch_size") == {64}
        assert values_of(name, "max_grad_norm") == {5}


@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        ("cue-reward-learning-rate", ["learning_rate"], {0.01, 0.001, 0.0003}),
        (
            "cue-reward-base-rate",
            ["network", "plasticity", "base_eta"],
            {0, 0.025, 0.05, 0.1, 0.2},
        ),
        (
            "cue-reward-base-rate",
            ["network", "plasticity", "base_decay"],
            {0, 0.025, 0.05, 0.1, 0.2},
        ),
        ("cue-reward-extra-dim", ["network", "extra_dim"], {0, 4, 8, 16}),
        ("cue-reward-modulation", ["network", "plasticity", "modulation"], {True, False}),
        (
            "cue-reward-alpha",
            ["network", "plasticity", "alpha"],
            {"random", "ones", "minus_ones", "off"},
        ),
        ("cue-reward-frozen", ["network", "freeze_slow_weights"], {True, False}),
        ("cue-reward-frozen", ["network", "plasticity", "alpha"], {"random", "ones", "minus_ones"}),
        ("cue-reward-noise", ["cue_reward", "noise"], {0.1, 0.5}),
        ("copy", ["copy", "delay"], {0, 20, 40}),
        ("copy", ["copy", "length"], {20}),
        ("copy-delay", ["copy", "delay"], {0, 10, 20, 40, 60}),
        ("copy-delay", ["copy", "length"], {5}),
        ("copy-length", ["copy", "length"], {5, 10, 20, 30, 40}),
        ("copy-length", ["copy", "delay"], {0}),
        ("copy-modulation", ["network", "plasticity", "modulation"], {True, False}),
        ("copy-max-norm", ["network", "plasticity", "max_norm"], {1, 100}),
        ("copy-weight-clip", ["network", "plasticity", "weight_clip"], {0.01, 0.1, 1}),
        ("regression", ["regression", "kind"], {"linear", "mlp"}),
        ("regression", ["regression", "num_support"], {10, 20}),
        ("regression-modulation", ["network", "plasticity", "modulation"], {True, False}),
        ("few-shot", ["network", "encoder"], {"conv4", "resnet12"}),
    ],
)
def test_what_the_paper_varies(name, path, expected):
    assert values_of(name, *path) == expected


def test_experiments_share_the_runs_that_they_have_in_common():
    main = {run.name for run in runs_of("cue-reward")}
    assert main <= {run.name for run in runs_of("cue-reward-learning-rate")}
    assert main <= {run.name for run in runs_of("cue-reward-noise")}


def test_the_folder_depends_on_settings_and_not_on_what_is_the_default():
    run = runs_of("cue-reward", "smoke")[0]
    other = replace(run, config=replace(run.config, learning_rate=0.5))
    assert other.name != run.name
    assert replace(run, point={"other": "label"}).name == run.name
    encoder = replace(run, encoder=TrainConfig(steps=3))
    assert encoder.name not in (run.name, replace(run, encoder=TrainConfig(steps=4)).name)
    seeds = [replace(run, config=replace(run.config, seed=seed)).name for seed in (0, 1)]
    assert [name.rpartition("-")[0] for name in seeds] == [run.name.rpartition("-")[0]] * 2


def test_seeds_come_last_so_that_early_results_cover_all_points():
    runs = runs_of("copy", "laptop")
    assert [run.config.seed for run in runs] == sorted(run.config.seed for run in runs)


def test_where_images_come_from_reaches_network_and_encoder():
    settings = {"few_shot.source": "omniglot", "few_shot.root": "data"}
    for run in EXPERIMENTS["few-shot"].runs("laptop", settings):
        for config in (run.config, run.encoder):
            assert (config.few_shot.source, config.few_shot.root) == ("omniglot", "data")
        assert run.encoder.seed == run.config.seed


def test_settings_are_given_by_dotted_names():
    config = with_settings(
        TrainConfig(),
        {"steps": 3, "network.rule": "hebbian", "network.plasticity.max_norm": 2, "task": "copy"},
    )
    assert (config.steps, config.network.rule) == (3, "hebbian")
    assert config.network.plasticity == RuleSettings(max_norm=2)
    assert differences(config) == {
        "task": "copy",
        "steps": 3,
        "network.rule": "hebbian",
        "network.plasticity.max_norm": 2,
    }
    group = {"network.plasticity.max_norm": 2, "network.plasticity": RuleSettings(base_eta=0.5)}
    both = with_settings(TrainConfig(), group).network.plasticity
    assert both == RuleSettings(base_eta=0.5, max_norm=2)


@pytest.mark.parametrize("name", ["stepz", "network.rulez", "network.plasticity.etas"])
def test_a_setting_that_does_not_exist_is_refused(name):
    with pytest.raises(ValueError, match=name.rpartition(".")[2]):
        with_settings(TrainConfig(), {name: 1})


def test_axes():
    axis = vary("rate", (0.1, 0.2), "network.plasticity.base_eta", "network.plasticity.base_decay")
    assert axis.points["0.2"] == {
        "network.plasticity.base_eta": 0.2,
        "network.plasticity.base_decay": 0.2,
    }
    assert list(axis.only(["0.2"]).points) == ["0.2"]
    with pytest.raises(ValueError, match=r"rate must be one of 0.1, 0.2, got '3'"):
        axis.only(["3"])
    assert list(networks({"lstm": 10}).points) == ["gradient-lstm", "hebbian-lstm", "none-lstm"]
    assert networks({"lstm": 10}).points["none-lstm"]["network.hidden_size"] == 15


def test_networks_are_named_for_people():
    assert network_title("hebbian-lstm", 128) == "Hebbian LSTM 128"
    assert network_title("none-rnn") == "no plasticity, RNN"


def test_estimates_grow_with_what_makes_runs_long():
    config = TrainConfig(steps=1_000)
    base = estimate_seconds(config)
    assert 30 < base < 300
    larger = [
        replace(config, steps=2_000),
        replace(config, batch_size=128),
        replace(config, network=NetworkConfig(hidden_size=256)),
        replace(config, network=NetworkConfig(cell="lstm")),
        replace(config, network=NetworkConfig(plasticity=RuleSettings(weight_clip=1))),
        replace(config, eval_every=1),
    ]
    assert all(estimate_seconds(each) > 1.2 * base for each in larger)
    assert estimate_seconds(replace(config, network=NetworkConfig(rule="none"))) < base


def test_the_speed_of_the_machine_is_read_from_long_runs(tmp_path):
    config = TrainConfig(steps=10_000)
    folder = RunFolder(tmp_path)
    assert speed([(folder, config)]) == 1
    half = {"step": 5_000, "seconds": estimate_seconds(config)}
    folder.timing_path.write_text(json.dumps(half) + "\n")
    assert speed([(folder, config)]) == pytest.approx(2, rel=0.05)
