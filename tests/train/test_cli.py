import json
import subprocess
import sys

import pytest

from train.run_folder import RunFolder

SMALL = ["--hidden-size", 8, "--batch-size", 4, "--eval-episodes", 8, "--threads", 1]
SMALL += ["--steps", 4, "--eval-every", 2]
FEW_SHOT = ["train", "--task", "few-shot", "--filters", 2, "--out", "run", "--source"]


def run_process(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "train.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("subcommand", "options"),
    [
        ("train", ["--task", "--rule", "--cell", "--steps", "--out", "--resume", "--json"]),
        ("train", ["--model", "--encoder", "--filters", "--n-way", "--source", "--root"]),
        ("train", ["--schedule", "--encoder-run", "--fine-tune", "--augment"]),
        ("evaluate", ["--checkpoint", "--episodes", "--seed", "--json"]),
        ("plot", ["--output", "--json"]),
        ("demo", ["--out", "--steps", "--processes", "--json"]),
    ],
)
def test_help_names_the_options(command, subcommand, options):
    code, out = command(subcommand, "--help")
    assert code == 0
    assert [option for option in options if option not in out] == []


def test_help_names_the_subcommands(command):
    code, out = command("--help")
    assert code == 0
    assert all(name in out for name in ("train", "evaluate", "plot", "demo"))


def test_train_evaluate_and_plot_print_json_alone(command, tmp_path):
    folder = RunFolder(tmp_path / "run")
    process = run_process("train", *SMALL, "--out", folder.path, "--json")
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == {"run": str(folder.path), **folder.metrics()[-1]}
    assert process.stdout.count("\n") == 1

    code, out = command("evaluate", folder.path, "--episodes", 4, "--seed", 3, "--json")
    result = json.loads(out)
    assert code == 0
    assert (result["run"], result["episodes"], result["seed"]) == (str(folder.path), 4, 3)

    figure = tmp_path / "curves.png"
    code, out = command("plot", folder.path, "--output", figure, "--json")
    assert code == 0
    assert json.loads(out) == {"figure": str(figure), "runs": [str(folder.path)]}
    assert figure.stat().st_size > 0


def test_results_are_printed_for_people(command, tmp_path):
    path = tmp_path / "run"
    code, out = command("train", *SMALL, "--rule", "none", "--out", path)
    assert code == 0
    assert f"{path}: validation score" in out
    code, out = command("evaluate", path, "--episodes", 4, "--checkpoint", "last")
    assert code == 0
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert (lines["rule"], lines["checkpoint"], lines["agree"]) == ("none", "last", "True")
    code, out = command("plot", path, "--output", tmp_path / "c.svg")
    assert (code, out) == (0, f"{tmp_path / 'c.svg'}\n")


def test_few_shot_runs_from_training_to_a_figure(command, tmp_path, image_file):
    task = ["--task", "few-shot", "--source", "arrays", "--root", image_file]
    options = [*SMALL, *task, "--n-way", 3, "--n-query", 3, "--filters", 4]
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert command("train", *options, "--model", "prototypical", "--out", first)[0] == 0
    code, out = command("train", *options, "--encoder-run", first, "--out", second, "--json")
    assert code == 0
    assert json.loads(out) == {"run": str(second), **RunFolder(second).metrics()[-1]}
    tuned = ("--encoder-run", first, "--fine-tune", "--schedule", "cosine", "--out", third)
    code, out = command("train", *options, *tuned)
    assert code == 0
    assert f"{third}: validation score" in out
    assert "(chance 0.3333)" in out
    for path in (first, second, third):
        code, out = command("evaluate", path, "--episodes", 4, "--json")
        result = json.loads(out)
        assert code == 0
        assert result["task"] == "few-shot"
        assert result["agree"] is True
        assert {"first_query", "first_query_interval", "oracle"} <= result.keys()
    code, _ = command("evaluate", second, "--episodes", 4)
    assert code == 0
    figure = tmp_path / "curves.png"
    assert command("plot", first, second, third, "--output", figure)[0] == 0
    assert figure.stat().st_size > 0


def test_a_prototypical_run_without_a_folder_is_named_by_its_encoder(
    command, tmp_path, monkeypatch, image_file
):
    monkeypatch.chdir(tmp_path)
    task = ["--task", "few-shot", "--source", "arrays", "--root", image_file, "--n-way", 3]
    options = [*SMALL, *task, "--n-query", 3, "--model", "prototypical", "--filters", 3]
    assert command("train", *options)[0] == 0
    path = tmp_path / "runs/few-shot-prototypical-conv4-3-seed0"
    assert RunFolder(path).config().network.filters == 3


def test_settings_of_task_network_and_rule_reach_the_run(command, tmp_path):
    task = ["--task", "copy", "--copy.length", 2, "--copy.delay", 1]
    network = ["--rule", "hebbian", "--cell", "lstm", "--base-eta", 0.3, "--alpha", "ones"]
    assert command("train", *SMALL, *task, *network, "--out", tmp_path / "run")[0] == 0
    config = RunFolder(tmp_path / "run").config()
    assert (config.copy.length, config.copy.delay, config.steps) == (2, 1, 4)
    assert (config.network.rule, config.network.cell) == ("hebbian", "lstm")
    assert (config.network.plasticity.base_eta, config.network.plasticity.alpha) == (0.3, "ones")


def test_without_a_folder_the_settings_name_it(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("train", *SMALL, "--seed", 3)[0] == 0
    assert RunFolder(tmp_path / "runs/cue-reward-gradient-rnn-8-seed3").config().seed == 3


def test_a_run_that_could_not_start_leaves_no_folder(command, tmp_path):
    assert command("train", "--hidden-size", 0, "--out", tmp_path / "run")[0] == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "value"), [("rule", "foo"), ("hidden_size", "8")])
def test_wrong_settings_of_the_network_are_told(command, make_run, caplog, name, value):
    run = make_run()
    data = json.loads(run.config_path.read_text())
    data["network"][name] = value
    run.config_path.write_text(json.dumps(data))
    assert command("evaluate", run.path, "--episodes", 2) == (1, "")
    assert name in caplog.text


def test_an_error_of_a_process_goes_to_stderr_without_a_traceback(tmp_path):
    process = run_process("evaluate", tmp_path / "absent", "--json")
    assert (process.returncode, process.stdout) == (1, "")
    assert f"{tmp_path / 'absent'} is no run folder" in process.stderr
    assert "Traceback" not in process.stderr


def test_missing_images_are_told_on_stderr_without_a_traceback(tmp_path):
    options = ("--source", "omniglot", "--root", tmp_path, "--out", tmp_path / "run")
    process = run_process("train", "--task", "few-shot", *options)
    assert (process.returncode, process.stdout) == (1, "")
    assert str(tmp_path) in process.stderr
    assert "images_background" in process.stderr
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plot"], "at least one run"),
        (["plot", "absent"], "absent is no run folder"),
        (["evaluate", "absent"], "absent is no run folder"),
        (
            ["train", "--hidden-size", 0, "--out", "run"],
            "hidden_size must be an integer of at least 1",
        ),
        (["train", "--steps", -1], "steps must be at least 0"),
        (["train", "--copy.length", 3], "the task is 'cue-reward'"),
        (["train", "--n-way", 3], "the task is 'cue-reward'"),
        (["train", "--filters", 3], "filters=3 is set, but the task has no images"),
        ([*FEW_SHOT, "omniglot"], "where are the images?"),
        ([*FEW_SHOT, "omniglot", "--root", "absent"], "absent; root must be the folder with"),
        ([*FEW_SHOT, "omniglot", "--root", "."], "images_background"),
        ([*FEW_SHOT, "folders", "--root", "."], "has no class folders with images"),
        ([*FEW_SHOT, "arrays", "--root", "."], "is not a file"),
        ([*FEW_SHOT, "cifar-fs", "--root", "."], "cifar-100"),
        ([*FEW_SHOT, "mini-imagenet", "--root", "."], "mini-imagenet"),
        ([*FEW_SHOT, "glyphs", "--root", "."], "leave out root='.'"),
        ([*FEW_SHOT, "glyphs", "--encoder-run", "absent"], "absent is no run folder"),
        ([*FEW_SHOT, "glyphs", "--hidden-size", 5], "hidden_size must be more than the 5"),
        ([*FEW_SHOT, "glyphs", "--n-way", 1], "n_way must be"),
        ([*FEW_SHOT, "glyphs", "--n-way", 9999], "n_way=9999, but there are"),
    ],
)
def test_an_error_is_told_in_one_line(
    command, caplog, capsys, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    code, out = command(*arguments)
    told = caplog.text + capsys.readouterr().err
    assert (code, out) == (1, "")
    assert message in told
    assert "Traceback" not in told
    assert list(tmp_path.iterdir()) == []


def test_a_form_that_cannot_compute_the_network_leaves_no_folder(command, caplog, tmp_path):
    options = ("--form", "compiled", "--weight-clip", 1, "--out", tmp_path / "run")
    assert command("train", *options) == (1, "")
    assert "form 'compiled' cannot compute this network" in caplog.text
    assert not (tmp_path / "run").exists()


def test_a_negative_seed_is_refused(run, command, caplog):
    assert command("evaluate", run.path, "--seed", -1) == (1, "")
    assert "seed must be at least 0" in caplog.text
