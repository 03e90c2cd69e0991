import json
import subprocess
import sys

import pytest

from train.runs.run_folder import RLRunFolder, RunFolder

SMALL = ["--hidden-size", 8, "--batch-size", 4, "--eval-episodes", 8, "--threads", 1]
SMALL += ["--steps", 4, "--eval-every", 2]
LITTLE_RL = ["--env", "PlasticMaze-v0", "--env-kwargs", "size", 5, "episode_length", 3]
LITTLE_RL += ["--steps", 48, "--eval-every", 24, "--num-envs", 4, "--n-steps", 6]
LITTLE_RL += ["--eval-episodes", 4, "--n-epochs", 1, "--threads", 1]
SMALL_RL = [*LITTLE_RL, "--hidden-size", 6]
MEMORIES = {
    "hebbian-memory": {"keep": 0.9},
    "delta": {"layers": 2},
    "gated-delta": {"keep": 0.5},
    "mesa": {"ridge": 0.1},
    "attention": {"context": 2, "match": "dot", "features": "gru"},
}
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
        ("train", ["--core", "--encoder", "--filters", "--schedule", "--encoder-run"]),
        ("train", ["--fine-tune", "--device", "--hidden-size", "--base-eta", "--num-cues"]),
        ("train-rl", ["--env", "--env-kwargs", "--core", "--rule", "--cell", "--steps", "--seed"]),
        ("train-rl", ["--previous-action-reward", "--gamma", "--vf-coef", "--n-steps"]),
        ("train-rl", ["--deterministic", "--num-envs", "--out", "--resume", "--json"]),
        ("train-rl", ["--device", "--num-arms", "--hidden-size", "--max-norm"]),
        ("watch", ["--output", "--checkpoint", "--seed"]),
        ("evaluate", ["--checkpoint", "--episodes", "--seed", "--json"]),
        ("plot", ["--output", "--json"]),
        ("reproduce", ["--budget", "--out", "--jobs", "--list", "--seeds", "--only", "--json"]),
        ("report", ["--out", "--budget", "--json"]),
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
    names = ("train", "train-rl", "watch", "evaluate", "plot", "demo", "reproduce", "report")
    assert all(name in out for name in names)


def test_train_evaluate_and_plot_print_json_alone(command, tmp_path):
    folder = RunFolder(tmp_path / "run")
    code, out = command("train", *SMALL, "--out", folder.path, "--json")
    assert code == 0
    assert json.loads(out) == {"run": str(folder.path), **folder.metrics()[-1]}
    assert out.count("\n") == 1

    code, out = command("evaluate", folder.path, "--episodes", 4, "--seed", 3, "--json")
    result = json.loads(out)
    assert code == 0
    assert (result["run"], result["episodes"], result["seed"]) == (str(folder.path), 4, 3)

    figure = tmp_path / "curves.png"
    code, out = command("plot", folder.path, "--output", figure, "--json")
    assert code == 0
    assert json.loads(out) == {"figure": str(figure), "runs": [str(folder.path)]}
    assert figure.stat().st_size > 0


def test_a_core_brings_the_settings_that_suit_it_and_others_can_be_asked_for(command, tmp_path):
    small = ["--task", "copy", "--length", 2, "--batch-size", 2, "--eval-episodes", 2]
    for name, words, expected in (
        ("plain", ["--core", "gru", "--steps", 1], (1e-3, "constant")),
        ("memory", ["--core", "delta", "--steps", 1], (3e-3, "cosine")),
        ("asked", ["--core", "delta", "--steps", 1, "--learning-rate", 0.1], (0.1, "cosine")),
    ):
        assert command("train", *small, *words, "--out", tmp_path / name)[0] == 0
        config = RunFolder(tmp_path / name).config()
        assert (config.learning_rate, config.schedule, config.steps) == (*expected, 1)


def test_a_network_is_scored_on_other_episodes_of_its_task(command, tmp_path):
    path = tmp_path / "run"
    small = ["--core", "gru", *SMALL, "--task", "copy", "--length", 2]
    assert command("train", *small, "--out", path)[0] == 0
    code, out = command("evaluate", path, "--delay", 3, "--episodes", 4, "--json")
    assert (code, json.loads(out)["delay"]) == (0, 3)
    assert command("evaluate", path, "--delay", -1)[0] == 1
    assert command("evaluate", path, "--kind", "mlp")[0] == 2


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


def test_an_agent_is_trained_scored_drawn_and_watched(command, tmp_path):
    run = tmp_path / "run"
    code, out = command("train-rl", *SMALL_RL, "--rule", "gradient", "--out", run, "--json")
    assert code == 0
    assert json.loads(out) == {"run": str(run), **RLRunFolder(run).metrics()[-1]}
    config = RLRunFolder(run).config()
    assert config.env_kwargs == {"size": 5, "episode_length": 3}
    assert (config.network.rule, config.ppo.n_steps, config.steps) == ("gradient", 6, 48)
    code, out = command("evaluate", run, "--episodes", 4, "--seed", 3, "--json")
    result = json.loads(out)
    assert code == 0
    assert (result["run"], result["episodes"], result["seed"]) == (str(run), 4, 3)
    assert result["references"].keys() >= {"random actions", "optimum"}
    code, out = command("evaluate", run, "--episodes", 4, "--checkpoint", "last")
    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert ["agent", "gradient-rnn-6"] in lines
    assert any(line[:2] == ["random", "actions"] for line in lines)
    figure, picture = tmp_path / "curves.png", tmp_path / "last.jpg"
    assert command("plot", run, "--output", figure) == (0, f"{figure}\n")
    assert command("watch", run, "--output", picture) == (0, f"{picture}\n")
    assert figure.stat().st_size > 0
    assert picture.stat().st_size > 0


@pytest.mark.parametrize("core", MEMORIES)
def test_an_agent_may_have_any_associative_memory(command, tmp_path, core):
    options = {"embedding": 6, "heads": 2, "key_size": 3, **MEMORIES[core]}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    run = tmp_path / "run"
    assert command("train-rl", *LITTLE_RL, "--core", core, *words, "--out", run)[0] == 0
    assert options.items() <= RLRunFolder(run).config().network.core_settings.items()
    assert command("evaluate", run, "--episodes", 4)[0] == 0


def test_an_agents_run_without_a_folder_is_named_by_its_settings(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("--core", "mlp", "--no-previous-action-reward", "--seed", 3)
    code, out = command("train-rl", *SMALL_RL, *options)
    name = "runs/PlasticMaze-v0-mlp-6-observation-only-seed3"
    assert code == 0
    assert out.startswith(f"{name}: validation score ")
    assert "after 48 steps" in out
    assert RLRunFolder(tmp_path / name).config().seed == 3


@pytest.mark.parametrize(
    "options", [["--seed=3"], ["--no-previous-action-reward"], ["--out", "other"]]
)
def test_an_agents_run_does_not_go_on_with_other_settings(make_rl_run, command, caplog, options):
    run = make_rl_run()
    before = run.metrics_path.read_bytes()
    assert command("train-rl", "--resume", run.path, *options) == (1, "")
    name = options[0].split("=")[0]
    assert f"--resume goes on with the settings of its run: it cannot be combined with {name}" in (
        caplog.text
    )
    assert run.metrics_path.read_bytes() == before


def test_runs_of_the_other_kind_are_sent_to_the_other_command(run, make_rl_run, command, caplog):
    agent = make_rl_run()
    assert command("train", "--resume", agent.path) == (1, "")
    assert f"{agent.path} goes on with plastic train-rl --resume" in caplog.text
    assert command("train-rl", "--resume", run.path) == (1, "")
    assert f"{run.path} goes on with plastic train --resume" in caplog.text
    assert command("watch", run.path) == (1, "")
    assert f"{run.path} was trained by supervised learning" in caplog.text


@pytest.mark.slow
def test_nothing_is_said_of_output_that_nobody_reads(tmp_path):
    words = [sys.executable, "-m", "train.cli", "reproduce", "--list", "--json", "--out", tmp_path]
    with subprocess.Popen(
        list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 1
    assert "pipe" not in said


@pytest.mark.parametrize(
    "words", [["train-rl", "--out", "run"], pytest.param(["evaluate"], marks=pytest.mark.slow)]
)
def test_a_missing_stable_baselines3_is_told_in_one_line(make_rl_run, tmp_path, words):
    """In a process of its own, in which it cannot be imported."""
    (tmp_path / "stable_baselines3.py").write_text("raise ImportError('it is not installed')")
    words = [*words, make_rl_run().path] if words == ["evaluate"] else words
    start = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import train.cli; train.cli.main()"
    process = subprocess.run(
        [sys.executable, "-c", start, *map(str, words)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.startswith("ERROR agents.sb3 needs Stable-Baselines3: pip install")
    assert process.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_few_shot_runs_from_training_to_a_figure(command, tmp_path, image_file):
    task = ["--task", "few-shot", "--source", "arrays", "--root", image_file]
    options = [*SMALL, *task, "--n-way", 3, "--n-query", 3, "--filters", 4]
    encoder = options[2:]
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert command("train", *encoder, "--core", "prototypical", "--out", first)[0] == 0
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
    options = [*SMALL[2:], *task, "--n-query", 3, "--core", "prototypical", "--filters", 3]
    assert command("train", *options)[0] == 0
    path = tmp_path / "runs/few-shot-prototypical-conv4-3-seed0"
    assert RunFolder(path).config().network.filters == 3


def test_settings_of_task_network_and_rule_reach_the_run(command, tmp_path):
    task = ["--task", "copy", "--length", 2, "--delay", 1]
    network = ["--rule", "hebbian", "--cell", "lstm", "--base-eta", 0.3, "--alpha", "ones"]
    assert command("train", *SMALL, *task, *network, "--out", tmp_path / "run")[0] == 0
    config = RunFolder(tmp_path / "run").config()
    assert config.task_settings == {"length": 2, "dim": 1, "delay": 1}
    assert (config.network.rule, config.network.cell) == ("hebbian", "lstm")
    rates = config.network.rule_settings
    assert (rates["base_eta"], rates["alpha"], config.steps) == (0.3, "ones", 4)


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
    (data["network"] if name in data["network"] else data["network"]["core_settings"])[name] = value
    run.config_path.write_text(json.dumps(data))
    assert command("evaluate", run.path, "--episodes", 2) == (1, "")
    assert name in caplog.text


def test_an_error_of_a_process_goes_to_stderr_without_a_traceback(tmp_path):
    process = run_process("evaluate", tmp_path / "absent", "--json")
    assert (process.returncode, process.stdout) == (1, "")
    assert f"{tmp_path / 'absent'} is no run folder" in process.stderr
    assert "Traceback" not in process.stderr


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
        (["watch", "absent"], "absent is no run folder"),
        (["train-rl", "--resume", "absent"], "absent is no run folder"),
        (["train-rl", "--env", "Absent-v0"], "the environment 'Absent-v0' cannot be made"),
        (["train-rl", "--env-kwargs", "arms", 3], "unexpected keyword argument 'arms'"),
        (["train-rl", "--num-envs", 2], "at most num_envs=2 of them, got 4"),
        (["train-rl", "--steps", 0], "steps must be an integer of at least 1, got 0"),
        (["train-rl", "--start-from", "absent"], "absent"),
        (["train", "--steps", -1], "steps must be an integer of at least 0"),
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
    assert "seed must be an integer of at least 0" in caplog.text
