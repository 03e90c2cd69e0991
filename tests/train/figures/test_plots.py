import re
import shutil
from dataclasses import replace
from functools import partial

import matplotlib.image
import numpy as np
import pytest

from train.figures import runs as plot
from train.figures.drawing import Curve, ScoreAxis, comparison_figure, group, save
from train.figures.runs import plot_runs
from train.runs.run_folder import RunFolder
from train.scoring.references import reference_scores


def curve(label, steps, scores, eta=None):
    return Curve(label, np.array(steps), np.array([scores], float), eta)


@pytest.fixture
def drawn(monkeypatch, figures):
    """The curves of the last figure, which is not written."""
    found = []

    def record(axis, curves):
        found[:] = curves
        return comparison_figure(axis, curves)

    monkeypatch.setattr(plot, "comparison_figure", record)
    return found


@pytest.fixture
def figures(monkeypatch):
    """Figures that would have been written."""
    found = []
    monkeypatch.setattr(plot, "save", lambda figure, path: found.append(figure))
    return found


@pytest.fixture
def make_short_agent(make_rl_run):
    """Return a function that makes runs with a single update and an evaluation before and after."""
    return partial(make_rl_run, steps=48, eval_every=48)


@pytest.mark.parametrize(
    "task",
    [
        pytest.param("copy", marks=pytest.mark.slow),
        "cue-reward",
        "few-shot",
        pytest.param("regression", marks=pytest.mark.slow),
    ],
)
def test_a_figure_is_drawn_for_every_task(make_run, tmp_path, task):
    path = tmp_path / "new" / "curves.png"
    assert plot_runs([make_run(task=task), make_run(task=task, rule="none")], path) == path
    pixels = matplotlib.image.imread(path)
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 20


def test_the_figure_of_a_run_without_plasticity_has_no_rates(make_run, tmp_path, drawn, figures):
    plot_runs([make_run(rule="none")], tmp_path / "none.png")
    plot_runs([make_run(rule="none"), make_run()], tmp_path / "both.png")
    assert [c.eta is None for c in drawn] == [True, False]
    one, both = figures
    assert len(one.axes) < len(both.axes)
    assert one.get_figwidth() < both.get_figwidth()


def test_seeds_are_joined_and_other_networks_are_not(make_run, tmp_path, drawn):
    runs = [make_run(), make_run(seed=1), make_run(rule="hebbian"), make_run(hidden_size=9)]
    plot_runs(runs, tmp_path / "curves.png")
    assert [c.label for c in drawn] == ["gradient rnn 8", "hebbian rnn 8", "gradient rnn 9"]
    assert [len(c.scores) for c in drawn] == [2, 1, 1]
    scores = [[r["val_score"] for r in run.metrics()] for run in runs[:2]]
    np.testing.assert_array_equal(drawn[0].scores, scores)
    assert drawn[0].eta.shape == (2, 6)


def test_runs_that_differ_in_more_than_the_seed_are_not_joined(make_run, tmp_path, drawn):
    plot_runs([make_run(), make_run(seed=1, learning_rate=3.0)], tmp_path / "curves.png")
    assert [len(c.scores) for c in drawn] == [1, 1]


def test_a_prototypical_network_is_drawn_beside_a_plastic_one(make_run, tmp_path, drawn):
    runs = [make_run(task="few-shot"), make_run(task="few-shot", core="prototypical")]
    plot_runs(runs, tmp_path / "curves.png")
    first, second = drawn
    assert first.label.startswith("gradient rnn 12")
    assert second.label.startswith("prototypical conv4 4")
    assert first.eta.shape == (1, 6)
    assert second.eta is None
    for run, each in zip(runs, drawn, strict=True):
        assert each.scores.tolist() == [[record["val_score"] for record in run.metrics()]]


def test_few_shot_runs_that_differ_in_their_images_are_not_joined(make_run, tmp_path, drawn):
    runs = [make_run(task="few-shot"), make_run(task="few-shot", augment=True)]
    plot_runs(runs, tmp_path / "curves.png")
    assert [len(c.scores) for c in drawn] == [1, 1]


def test_a_run_with_the_encoder_of_another_is_not_joined_with_one_without(
    make_run, encoder_run, tmp_path, drawn
):
    runs = [
        make_run(task="few-shot", encoder_run=str(encoder_run.path), fine_tune=fine_tune)
        for fine_tune in (False, True)
    ]
    plot_runs([make_run(task="few-shot"), *runs], tmp_path / "curves.png")
    assert [len(c.scores) for c in drawn] == [1, 1, 1]


def test_few_shot_figures_show_accuracies(make_run, tmp_path, figures):
    run = make_run(task="few-shot", rule="none")
    task = run.config().task_for("validation")
    plot_runs([run], tmp_path / "curves.png")
    (axes,) = figures[0].axes
    assert axes.get_ylim() == (0, 1)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("training step", "accuracy, all queries")
    episodes = task.sample_episodes(1_000, run.config().test_seed)
    oracle = task.score(task.oracle(episodes.observations), episodes)
    drawn = {line.get_ydata()[0] for line in axes.lines[1:]}
    assert drawn == {task.chance_score, oracle}
    assert {text.get_text() for text in axes.texts} == {"chance", "nearest neighbour on pixels"}


def test_figures_of_errors_show_chance_and_optimum_above_zero(make_run, tmp_path, figures):
    run = make_run(rule="none")
    task = run.config().task_for("validation")
    plot_runs([run], tmp_path / "curves.png")
    (axes,) = figures[0].axes
    assert [line.get_ydata()[0] for line in axes.lines[1:]] == [
        task.chance_score,
        task.optimal_score,
    ]
    assert {text.get_text() for text in axes.texts} == {"chance", "optimum"}
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > task.chance_score


def test_the_ending_says_the_format(run, tmp_path):
    assert "<svg" in plot_runs([run], tmp_path / "curves.svg").read_text()
    assert plot_runs([run], tmp_path / "curves.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match="xyz"):
        plot_runs([run], tmp_path / "curves.xyz")


def test_one_figure_shows_one_task(make_run, tmp_path):
    first, second = make_run(), make_run(task="copy")
    with pytest.raises(ValueError, match=re.escape(str(second.path))):
        plot_runs([first, second], tmp_path / "curves.png")
    harder = make_run(task="copy", length=2, delay=2)
    with pytest.raises(ValueError, match="delay=2"):
        plot_runs([second, harder], tmp_path / "curves.png")
    few_shot = [make_run(task="few-shot", steps=0, n_query=count) for count in (3, 4)]
    with pytest.raises(ValueError, match="n_query=4"):
        plot_runs(few_shot, tmp_path / "curves.png")


def test_no_runs_and_runs_without_metrics_are_refused(run, tmp_path):
    with pytest.raises(ValueError, match="at least one run"):
        plot_runs([], tmp_path / "curves.png")
    run.metrics_path.unlink()
    with pytest.raises(ValueError, match=re.escape(str(run.metrics_path)) + ".* is missing"):
        plot_runs([run], tmp_path / "curves.png")


def test_agents_are_drawn_with_what_they_are_compared_with(make_rl_run, tmp_path, figures):
    run = make_rl_run()
    plot_runs([run], tmp_path / "curves.png")
    (axes,) = figures[0].axes
    task, (line, *levels) = run.config().task, axes.lines
    assert line.get_xdata().tolist() == [0, 96, 192, 288]
    assert line.get_ydata().tolist() == [record["val_score"] for record in run.metrics()]
    references = reference_scores(task)
    assert [level.get_ydata()[0] for level in levels] == list(references.values())
    assert [text.get_text() for text in axes.texts] == list(references)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("environment step", task.score_name)
    assert "PlasticMaze-v0" in axes.get_title(loc="left")


def test_agents_in_a_foreign_environment_are_drawn_by_their_return(make_rl_run, tmp_path, figures):
    plot_runs([make_rl_run("CartPole-v1")], tmp_path / "curves.png")
    (axes,) = figures[0].axes
    assert len(axes.lines) == 1
    assert axes.get_ylabel() == "return of an episode"


@pytest.mark.parametrize(
    "env", ["PlasticMaze-v0", pytest.param("CartPole-v1", marks=pytest.mark.slow)]
)
def test_a_figure_of_agents_is_written(make_rl_run, tmp_path, env):
    path = plot_runs([make_rl_run(env)], tmp_path / "new" / "curves.png")
    pixels = matplotlib.image.imread(path)
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 20


def test_seeds_of_agents_are_joined_and_other_agents_are_not(make_short_agent, tmp_path, drawn):
    runs = [make_short_agent(), make_short_agent(seed=1), make_short_agent(core="lstm")]
    runs += [make_short_agent(previous_action_reward=False), make_short_agent(hidden_size=9)]
    plot_runs([*runs, runs[0]], tmp_path / "curves.png")  # one is named twice
    assert [c.label for c in drawn] == [
        "hebbian rnn 6",
        "lstm 6",
        "hebbian rnn 6 observation only",
        "hebbian rnn 9",
    ]
    assert [len(c.scores) for c in drawn] == [2, 1, 1, 1]
    scores = [[record["val_score"] for record in run.metrics()] for run in runs[:2]]
    assert drawn[0].scores.tolist() == scores


@pytest.mark.parametrize(
    ("change", "labels"),
    [
        ({"learning_rate": 0.1}, ["learning_rate=0.001", "learning_rate=0.1"]),
        ({"n_epochs": 2}, ["n_epochs=1", "n_epochs=2"]),
        ({"base_eta": 0.5}, ["base_eta=0.1", "base_eta=0.5"]),
    ],
)
def test_settings_in_which_agents_differ_are_named(
    make_short_agent, tmp_path, drawn, change, labels
):
    plot_runs([make_short_agent(), make_short_agent(**change, seed=1)], tmp_path / "curves.png")
    assert [c.label for c in drawn] == [f"hebbian rnn 6, {label}" for label in labels]


def test_settings_that_only_plastic_agents_have_name_no_others(make_short_agent, tmp_path, drawn):
    runs = [make_short_agent(extra_dim=size) for size in (1, 2)]
    runs += [make_short_agent(core="gru", seed=seed) for seed in (0, 1)]
    plot_runs(runs, tmp_path / "curves.png")
    assert [c.label for c in drawn] == [
        "hebbian rnn 6, extra_dim=1",
        "hebbian rnn 6, extra_dim=2",
        "gru 6",
    ]
    assert len(drawn[2].scores) == 2


def test_kinds_of_learning_and_environments_are_not_mixed(run, make_rl_run, tmp_path):
    agent, path = make_rl_run("PlasticCueReward-v0"), tmp_path / "curves.png"
    with pytest.raises(ValueError, match=f"one way of learning: {run.path} is supervised"):
        plot_runs([agent, run], path)
    with pytest.raises(ValueError, match=f"one task: {agent.path} is of .*Maze-v0"):
        plot_runs([agent, make_rl_run()], path)
    other = make_rl_run(env_kwargs={"size": 5, "episode_length": 4})
    with pytest.raises(ValueError, match="'episode_length': 4"):
        plot_runs([make_rl_run(), other], path)
    agent = type(agent)(tmp_path / "new")
    agent.create(make_rl_run().config())
    with pytest.raises(ValueError, match=f"{agent.path} has no metrics yet"):
        plot_runs([agent], path)
    assert not path.exists()


def test_joined_curves_are_cut_to_common_steps():
    curves = [curve("a", [0, 2, 4, 6], [9, 8, 7, 6]), curve("b", [0, 1], [1, 1])]
    curves += [curve("a", [0, 3, 6], [5, 4, 3]), curve("a", [0, 4, 6], [2, 1, 0])]
    joined, other = group(curves)
    assert (joined.label, other.label) == ("a", "b")
    np.testing.assert_array_equal(joined.steps, [0, 6])
    np.testing.assert_array_equal(joined.scores, [[9, 6], [5, 3], [2, 0]])
    np.testing.assert_array_equal(other.scores, [[1, 1]])


def test_rates_of_joined_curves_are_kept_if_all_have_them():
    plastic = curve("a", [0], [1], np.full((1, 3), 0.5))
    assert group([plastic, replace(plastic)])[0].eta.shape == (2, 3)
    assert group([plastic, replace(plastic, eta=None)])[0].eta is None


def test_dollars_in_names_start_no_formula(tmp_path):
    name = r"root=$HOME/a, b=$\frac{$"
    axis = ScoreAxis("$x", "a\x1b[31mb $", "step", {"$chance$": 0.5})
    figure = comparison_figure(axis, [curve(name, [0, 1], [1, 2])])
    save(figure, tmp_path / "curves.png")
    [legend] = figure.legends
    [text] = legend.get_texts()
    assert text.get_text().replace(r"\$", "$") == name
    assert "\x1b" not in figure.axes[0].get_ylabel()


def test_a_legend_counts_runs(make_run, tmp_path, figures):
    one = make_run()
    plot_runs([one, RunFolder(shutil.copytree(one.path, tmp_path / "copy"))], tmp_path / "c.png")
    assert "(2 runs)" in figures[0].axes[0].get_legend_handles_labels()[1][0]
