"""Experiments are run, cut off, gone on with and reported."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import train.experiments.command as command_module
from tests.train.tiny_experiments import (
    LONG,
    NOISE,
    HereExecutor,
    begun,
    few_shot_experiment,
    jobs_of,
    make_experiment,
    plan_of,
    processes_of,
    rl_experiment,
    wait_until,
)
from train.experiments import published
from train.experiments.executors import JobError, LocalProcesses
from train.experiments.job import TEST_EPISODES, is_finished, prepare, run_job, score
from train.experiments.published import images
from train.experiments.published.paper import MEASURES
from train.experiments.reports.figures import draw
from train.experiments.reports.reading import read_sections
from train.experiments.reports.report import table
from train.experiments.reports.results import mean_and_interval
from train.experiments.reproduce import duration, run_missing, seconds_left, selected, stages
from train.experiments.sweep import Axis
from train.runs.run_folder import RLRunFolder, RunFolder


@pytest.fixture(autouse=True)
def few_test_episodes(monkeypatch):
    monkeypatch.setattr("train.experiments.job.score", lambda folder: score(folder, 20))


@pytest.fixture
def declared(monkeypatch):
    """Return a function that declares experiments in place of the published ones."""

    def declare(*experiments):
        table = {experiment.name: experiment for experiment in experiments}
        monkeypatch.setattr(published, "EXPERIMENTS", table)

    return declare


@pytest.fixture
def here(monkeypatch):
    """Run jobs in this process; yields the executors that were made."""
    made = []

    def make(jobs):
        made.append(HereExecutor())
        return made[-1]

    monkeypatch.setattr(command_module, "LocalProcesses", make)
    return made


def test_what_is_missing_is_run_and_nothing_twice(tmp_path):
    jobs = jobs_of(plan_of(replace(NOISE, axes=()), tmp_path))
    first, second = HereExecutor(), HereExecutor()
    assert run_missing(jobs, first, progress=False) == {}
    assert first.stopped
    assert sorted(first.paths) == sorted(folder.path for folder, _ in jobs[0])
    assert len(first.paths) == 4
    assert all(is_finished(*job) for job in jobs[0])
    (tmp_path / "smoke" / first.paths[3].name / "test.json").unlink()
    assert run_missing(jobs, second, progress=False) == {}
    assert second.paths == [first.paths[3]]


def test_what_was_cut_off_goes_on_and_ends_as_if_it_had_not_been(tmp_path, assert_same_run):
    [(folder, config), *_] = jobs_of(plan_of(NOISE, tmp_path))[0]
    [(whole, _), *_] = jobs_of(plan_of(NOISE, tmp_path / "whole"))[0]
    folder.create(config)
    short = replace(config, steps=3)
    folder.config_path.write_text(short.to_json())
    run_job(folder)
    folder.config_path.write_text(config.to_json())
    assert not is_finished(folder, config)
    run_missing([[(folder, config)]], HereExecutor(), progress=False)
    run_missing([[(whole, config)]], HereExecutor(), progress=False)
    assert_same_run(folder, whole)
    assert (folder.path / "test.json").read_bytes() == (whole.path / "test.json").read_bytes()


@pytest.mark.parametrize("name", ["best", "last"])
def test_what_was_cut_off_in_its_last_validation_is_not_taken_for_finished(
    name, tmp_path, monkeypatch, assert_same_run
):
    [(folder, config), *_] = jobs_of(plan_of(NOISE, tmp_path))[0]
    [(whole, _), *_] = jobs_of(plan_of(NOISE, tmp_path / "whole"))[0]
    for each in (folder, whole):
        prepare(each, config)
    save = RunFolder.save_checkpoint

    def save_or_die(self, which, content):
        if (which, content["step"]) == (name, config.steps):
            raise KeyboardInterrupt
        save(self, which, content)

    run_job(whole)
    assert whole.load_checkpoint("best")["step"] == config.steps
    monkeypatch.setattr(RunFolder, "save_checkpoint", save_or_die)
    with pytest.raises(KeyboardInterrupt):
        run_job(folder)
    assert folder.metrics()[-1]["step"] == config.steps
    monkeypatch.setattr(RunFolder, "save_checkpoint", save)
    run_job(folder)
    assert_same_run(folder, whole)


def test_a_run_may_compute_elsewhere_when_it_goes_on(tmp_path):
    plan = plan_of(make_experiment(), tmp_path)
    [[(folder, config), *_]] = jobs_of(plan)
    prepare(folder, config)
    [[(again, moved), *_]] = jobs_of(replace(plan, device="cpu"))
    assert (again.path, config.device, moved.device) == (folder.path, "auto", "cpu")
    prepare(again, moved)
    assert folder.config().device == "cpu"
    assert command_module.ReproduceConfig(("copy",), device="cpu").plans()[0].device == "cpu"


def test_a_run_may_be_moved_with_its_encoder(tmp_path, image_file):
    folder, config = jobs_of(plan_of(few_shot_experiment(image_file), tmp_path))[1][0]
    folder.create(replace(config, encoder_run="elsewhere"))
    prepare(folder, config)
    assert folder.config() == config


def test_a_failed_run_says_why_until_it_is_finished(tmp_path, command, declared, here):
    declared(NOISE)
    folder, config = jobs_of(plan_of(NOISE, tmp_path))[0][0]
    command("reproduce", "tiny", "--budget", "smoke", "--out", tmp_path, "--only", "noise=0.5")

    def status():
        [section] = read_sections(tmp_path)
        return next(run.status for run in section.runs if run.folder.path == folder.path)

    folder.create(config)
    assert status() == "not started"
    good = RunFolder(here[0].paths[0])
    folder.metrics_path.write_text(good.metrics_path.read_text().splitlines(keepends=True)[0])
    assert status() == "at step 0 of 6"
    folder.checkpoint_path("last").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="not a checkpoint"):
        run_job(folder)
    assert re.search("failed at step 0 of 6: .*not a checkpoint", status())
    folder.checkpoint_path("last").unlink()
    run_job(folder)
    assert status() == "finished"
    assert not (folder.path / "failed.txt").exists()


def test_a_failed_run_does_not_stop_the_others_and_is_tried_again(tmp_path):
    jobs = jobs_of(plan_of(make_experiment(rules=("none",)), tmp_path))
    bad = jobs[0][0][0].path
    failures = run_missing(jobs, HereExecutor(lambda path: path == bad), progress=False)
    assert failures == {bad: "told to"}
    assert [is_finished(*job) for job in jobs[0]] == [False, True]
    again = HereExecutor()
    assert run_missing(jobs, again, progress=False) == {}
    assert again.paths == [bad]


def test_encoders_are_trained_first_and_taken_over(tmp_path, image_file):
    plan = plan_of(few_shot_experiment(image_file), tmp_path)
    jobs, executor = jobs_of(plan), HereExecutor()
    assert run_missing(jobs, executor, progress=False) == {}
    assert [len(stage) for stage in jobs] == [2, 2]
    assert executor.paths[:2] == [folder.path for folder, _ in jobs[0]]
    for folder, config in jobs[1]:
        encoder = RunFolder(Path(config.encoder_run))
        assert encoder.config().seed == config.seed
        one, other = (f.load_checkpoint("best")["network"] for f in (encoder, folder))
        name = "image_encoder.blocks.0.0.weight"
        theirs = [value for key, value in one.items() if key.endswith(name)]
        ours = [value for key, value in other.items() if key.endswith(name)]
        assert theirs[0].equal(ours[0])


def test_a_prototypical_network_is_scored_as_it_was_trained(tmp_path, image_file):
    experiment = few_shot_experiment(image_file)
    budget = experiment.budgets["smoke"]
    ready = {"network.core": "prototypical", "steps": 0, "fine_tune": True}
    budget = replace(budget, networks=Axis("network", {"prototypical": ready}), seeds=(0,))
    jobs = jobs_of(plan_of(replace(experiment, budgets={"smoke": budget}), tmp_path))
    assert run_missing(jobs, HereExecutor(), progress=False) == {}
    [[(encoder, _)], [(folder, config)]] = jobs
    one, other = (each.load_checkpoint("best")["network"] for each in (encoder, folder))
    images = [name for name in one if "image_encoder" in name]
    assert images
    assert all(one[name].equal(other[name]) for name in images)
    assert is_finished(folder, config)
    assert folder.standing().step == 0


def test_runs_that_need_a_failed_encoder_fail_with_it(tmp_path, image_file):
    jobs = jobs_of(plan_of(few_shot_experiment(image_file), tmp_path))
    bad = jobs[0][0][0].path
    failures = run_missing(jobs, HereExecutor(lambda path: path == bad), progress=False)
    assert set(failures) == {bad, jobs[1][0][0].path}
    assert is_finished(*jobs[1][1])


def test_a_folder_with_another_run_is_refused(tmp_path):
    jobs = jobs_of(plan_of(NOISE, tmp_path))
    folder, config = jobs[0][0]
    folder.create(replace(config, learning_rate=0.5))
    executor = HereExecutor()
    with pytest.raises(ValueError, match="holds a run with other settings"):
        run_missing(jobs, executor, progress=False)
    assert executor.paths == []


def test_two_processes_do_not_work_on_one_run(tmp_path):
    import fcntl

    [(folder, config), *_] = jobs_of(plan_of(NOISE, tmp_path))[0]
    folder.create(config)
    with (folder.path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match=re.escape(str(folder.path))):
            run_job(folder)


def test_points_and_seeds_are_selected():
    runs = NOISE.runs("smoke")
    chosen = selected(runs, [1], {"noise": ("0.5",), "network": ("none-rnn",)})
    assert [(run.config.seed, run.point["noise"]) for run in chosen] == [(1, "0.5")]
    with pytest.raises(ValueError, match="seed must be one of 0, 1, got '7'"):
        selected(runs, [7], {})
    with pytest.raises(ValueError, match=r"noise must be one of 0\.1, 0\.5, got '3'"):
        selected(runs, None, {"noise": ("3",)})
    with pytest.raises(ValueError, match="nothing is varied as 'delay'"):
        selected(runs, None, {"delay": ("3",)})


def test_scores_are_those_of_the_test_stream(tmp_path):
    [(folder, config), *_] = jobs_of(plan_of(NOISE, tmp_path))[0]
    folder.create(config)
    run_job(folder)
    from train.scoring.networks import evaluate

    ours, theirs = score(folder, 30), evaluate(folder, num_episodes=30)
    assert ours["score"] == pytest.approx(theirs["score"], abs=1e-6)
    assert ours["interval"] == pytest.approx(theirs["interval"], abs=1e-6)
    assert ours["seed"] == theirs["seed"]
    assert ours["references"]["oracle"]["score"] == pytest.approx(theirs["oracle"])
    for name in ("over_oracle", "parameters"):
        assert ours[name] == pytest.approx(theirs[name])
    assert ours["cpu_seconds"] == folder.cpu_seconds() > 0
    assert len(ours["eta"]) == 6
    assert ours["loss"] != ours["score"]  # the loss averages all steps, the score the queries


def test_agents_are_trained_by_the_same_engine_after_their_lesson(
    command, declared, here, tmp_path, monkeypatch
):
    pytest.importorskip("stable_baselines3", reason="it is not installed: the extra `sb3`")
    declared(rl_experiment())
    options = ("--budget", "smoke", "--out", tmp_path)
    code, out = command("reproduce", "maze", *options, "--json")
    assert code == 0
    lessons, runs = here[0].paths[:2], here[0].paths[2:]
    for path, lesson in zip(runs, lessons, strict=True):
        config = RLRunFolder(path).config()
        assert config.start_from == str(lesson)
        assert config.network == RLRunFolder(lesson).config().network
        first = RLRunFolder(lesson).load_model("best").policy.state_dict()
        assert RLRunFolder(path).metrics()[0]["step"] == 0
        assert first.keys() == RLRunFolder(path).load_model("last").policy.state_dict().keys()
        assert json.loads((path / "test.json").read_text())["episodes"] == 20
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["network"] for row in rows[:2]] == ["hebbian-rnn", "no memory"]
    assert {row["network"] for row in rows} > {"random actions"}
    assert all(row["runs"] == "1 of 1, 48 steps" for row in rows[:2])
    (runs[0] / "test.json").unlink()
    command("reproduce", "maze", *options)
    assert here[1].paths == [runs[0]]
    assert command("report", "--out", tmp_path)[0] == 0
    page = (tmp_path / "report.md").read_text()
    assert "| no memory |" in page
    assert "start_from: env_kwargs.episode_length=4" in page
    [section] = read_sections(tmp_path)
    assert draw(section, "curves").axes[0].get_xlabel() == "environment step"
    assert draw(section, "eta") is None


def test_an_agent_that_was_cut_off_goes_on(tmp_path, assert_same_agents, monkeypatch):
    pytest.importorskip("stable_baselines3", reason="it is not installed: the extra `sb3`")
    experiment = rl_experiment(lesson=False)
    (folder, config), _ = jobs_of(plan_of(experiment, tmp_path))[0]
    (whole, _), _ = jobs_of(plan_of(experiment, tmp_path / "whole"))[0]
    prepare(whole, config)
    run_job(whole)
    prepare(folder, config)
    save = RLRunFolder.save_model

    def save_or_die(self, which, model, standing):
        if (which, standing.step) == ("last", 48):
            raise KeyboardInterrupt
        save(self, which, model, standing)

    monkeypatch.setattr(RLRunFolder, "save_model", save_or_die)
    with pytest.raises(KeyboardInterrupt):
        run_job(folder)
    monkeypatch.setattr(RLRunFolder, "save_model", save)
    assert not is_finished(folder, config)
    run_job(folder)
    assert_same_agents(folder, whole)
    assert (folder.path / "test.json").read_bytes() == (whole.path / "test.json").read_bytes()


def test_what_comes_first_may_need_something_first(tmp_path):
    experiment = rl_experiment(lesson=False)
    [run, _] = experiment.runs("smoke")
    middle, earliest = (replace(run, config=replace(run.config, steps=steps)) for steps in (32, 16))
    chain = replace(run, first={"start_from": replace(middle, first={"start_from": earliest})})
    for asked in ([chain], [earliest, chain]):
        jobs = stages([(plan_of(experiment, tmp_path), asked)])
        assert [[config.steps for _, config in stage] for stage in jobs] == [[16], [32], [48]]
        (first, _), (second, config), (_, last) = (job for stage in jobs for job in stage)
        assert (config.start_from, last.start_from) == (str(first.path), str(second.path))


@pytest.mark.slow
def test_jobs_of_this_machine_fail_alone_with_their_log(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text("raise SystemExit('somebody else's program')")
    monkeypatch.chdir(tmp_path)
    jobs = jobs_of(plan_of(make_experiment(rules=("none",)), tmp_path))
    [[(bad, config), (good, _)]] = jobs
    bad.create(config)
    bad.checkpoint_path("last").write_bytes(b"rubbish")
    failures = run_missing(jobs, LocalProcesses(2), progress=False)
    assert list(failures) == [bad.path]
    assert "exit code 1" in failures[bad.path]
    assert "not a checkpoint" in failures[bad.path]
    assert str(bad.path / "log.txt") in failures[bad.path]
    assert is_finished(good, config)
    assert json.loads((good.path / "test.json").read_text())["episodes"] == TEST_EPISODES


def test_a_job_that_was_killed_says_so(tmp_path):
    settings = {"steps": 10_000, "eval_every": 4}
    [(folder, config), *_] = jobs_of(plan_of(make_experiment(settings=settings), tmp_path))[0]
    prepare(folder, config)
    (folder.path / "log.txt").write_text("what was said before\n")
    executor = LocalProcesses(1)
    future = executor.submit(folder.path)
    wait_until(lambda: folder.metrics_path.exists())
    [process] = processes_of(tmp_path)
    os.kill(process, signal.SIGKILL)
    with pytest.raises(JobError, match="killed by signal 9") as raised:
        future.result(timeout=90)
    executor.stop()
    assert "what was said before" not in str(raised.value)


PROGRAM = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from tests.train.tiny_experiments import LONG, jobs_of, plan_of
    from train.experiments.executors import LocalProcesses
    from train.experiments.reproduce import run_missing

    failures = run_missing(jobs_of(plan_of(LONG, Path(sys.argv[1]))), LocalProcesses(2))
    sys.exit(len(failures))
    """
)


@pytest.mark.slow
def test_killed_it_goes_on_where_it_was(tmp_path, assert_same_run):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(root=str(Path(__file__).parents[3])))
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    process = subprocess.Popen([sys.executable, program, cut], stderr=subprocess.DEVNULL)
    wait_until(lambda: begun(cut, 5))
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: processes_of(cut) == [])
    assert not all(path.with_name("test.json").exists() for path in cut.glob("*/*/config.json"))
    subprocess.run([sys.executable, program, cut], check=True, capture_output=True)
    torch.set_num_threads(1)
    run_missing(jobs_of(plan_of(LONG, whole)), HereExecutor(), progress=False)
    for path in whole.glob("smoke/*"):
        assert_same_run(RunFolder(cut / "smoke" / path.name), RunFolder(path))


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_all_processes_and_says_how_to_go_on(tmp_path):
    options = ["--only", "network=none-rnn", "--budget", "laptop", "--out", tmp_path, "--jobs", 2]
    arguments = [sys.executable, "-m", "train.cli", "reproduce", "cue-reward", *options]
    process = subprocess.Popen(
        [*map(str, arguments)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_until(lambda: any(tmp_path.glob("laptop/*/metrics.jsonl")))
    os.kill(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=90)
    assert process.returncode == 130
    assert "the same command goes on" in errors
    assert "Traceback" not in errors + out
    assert processes_of(tmp_path) == []
    assert not any(tmp_path.glob("laptop/*/test.json"))


def test_the_command_runs_what_is_asked_for_and_reports_it(command, declared, here, tmp_path):
    declared(NOISE, make_experiment("other"))
    options = ("--budget", "smoke", "--out", tmp_path)
    code, out = command("reproduce", "tiny", *options, "--only", "noise=0.5", "--seeds", 1)
    assert code == 0
    assert len(here[-1].paths) == 2
    assert out.count("not finished") == 2
    command("reproduce", "tiny", *options, "--only", "noise=0.1", "noise=0.5", "--seeds", 1)
    assert len(here[-1].paths) == 2
    code, out = command("reproduce", "tiny", *options, "--json")
    assert code == 0
    assert len(here[-1].paths) == 4
    rows = [json.loads(line) for line in out.splitlines()]
    plastic = [row for row in rows if row["network"] == "gradient RNN 8"]
    assert [row["place"] for row in plastic] == ["noise 0.1", "noise 0.5"]
    assert all(row["runs"] == "2 of 2, 6 steps" for row in plastic)


def test_the_list_tells_runs_and_time_left(command, declared, here, tmp_path):
    everything = dict.fromkeys(("paper", "laptop", "smoke"), NOISE.budgets["smoke"])
    declared(replace(NOISE, budgets=everything))
    code, out = command("reproduce", "--list", "--out", tmp_path)
    assert code == 0
    assert out.count("8 runs") == 3
    command("reproduce", "tiny", "--budget", "smoke", "--out", tmp_path)
    code, out = command("reproduce", "--list", "--out", tmp_path, "--json")
    row = json.loads(out)
    assert row["experiment"] == "tiny"
    assert row["smoke"] == {"runs": 8, "seconds": 0}
    assert row["paper"]["seconds"] > 0
    chosen = ("--only", "noise=0.5", "--seeds", 1, "--json", "--out", tmp_path)
    code, out = command("reproduce", "--list", *chosen)
    assert json.loads(out)["laptop"]["runs"] == 2


def test_the_list_leaves_out_what_is_not_asked_for(command, declared, here, tmp_path):
    other = replace(NOISE, name="other", budgets={"laptop": NOISE.budgets["smoke"]}, axes=())
    declared(NOISE, other)
    chosen = ("--only", "noise=0.5", "--out", tmp_path)
    out = command("reproduce", "--list", *chosen, "--json")[1]
    assert [json.loads(line)["experiment"] for line in out.splitlines()] == ["tiny"]
    assert command("reproduce", "--list", "--only", "noise=7", "--out", tmp_path)[0] == 1
    out = command("reproduce", "other", "--list", "--json", "--out", tmp_path)[1]
    [row] = map(json.loads, out.splitlines())
    assert row["laptop"]["runs"] == 4
    assert row["smoke"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name an experiment"),
        (["nothing"], "experiment must be one of 'cue-reward', .*got 'nothing'"),
        (["copy", "--jobs", "0"], "jobs must be an integer of at least 1"),
        (["--list", "--jobs", "0"], "jobs must be an integer of at least 1"),
        (["copy", "--only", "delay"], "only must be like delay=20,40, got 'delay'"),
        (["copy", "--only", "delay=7"], "delay must be one of"),
        (["copy", "--seeds", "9"], "seed must be one of"),
        (["demo", "--budget", "paper"], "budget of demo must be one of 'laptop', 'smoke'"),
    ],
)
def test_what_does_not_exist_is_refused(command, caplog, tmp_path, arguments, message):
    out = tmp_path / "out"
    assert command("reproduce", *arguments, "--out", out)[0] == 1
    assert re.search(message, caplog.text)
    assert not out.exists()


class Page(HTMLParser):
    """Collects what a page refers to."""

    def __init__(self):
        super().__init__()
        self.tags, self.sources, self.targets, self.ids = [], [], [], set()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        self.sources += [found["src"]] if "src" in found else []
        self.targets += [found["href"]] if tag == "a" else []
        self.ids |= {found["id"]} if "id" in found else set()


def test_the_report_is_one_page_and_says_what_is_missing(command, declared, here, tmp_path):
    declared(replace(NOISE, claim="Noise <hurts> & more."), make_experiment("other"))
    options = ("--budget", "smoke", "--out", tmp_path)
    command("reproduce", "tiny", *options, "--seeds", 0)
    code, out = command("report", "--out", tmp_path, "--json")
    assert code == 0
    paths = json.loads(out)
    text = Path(paths["html"]).read_text()
    page = Page()
    page.feed(text)
    assert page.tags.count("img") == 3
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert {target[1:] for target in page.targets if target[0] == "#"} <= page.ids
    assert "Noise &lt;hurts&gt; &amp; more." in text
    assert "4 of 8 runs are not finished" in text
    assert text.count("not started") == 4
    assert f"plastic reproduce tiny --budget smoke --out {tmp_path}" in text
    assert "torch" in text
    assert "<b>other</b>" in text
    markdown = Path(paths["markdown"]).read_text()
    assert "Noise &lt;hurts&gt; &amp; more." in markdown
    assert markdown.count("not started") == 4
    figures = re.findall(r"\((figures/.*?\.png)\)", markdown)
    assert len(figures) == 3
    assert all((tmp_path / figure).stat().st_size < 100_000 for figure in figures)
    widths = {line.count("|") for line in markdown.splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_regression_is_reported_beside_its_oracle(command, declared, here, tmp_path):
    settings = {"task_settings.num_support": 4, "task_settings.num_query": 3}
    measures = MEASURES["regression"]
    declared(make_experiment("line", "regression", settings=settings, measures=measures))
    command("reproduce", "line", "--budget", "smoke", "--out", tmp_path)
    [section] = read_sections(tmp_path)
    [panel] = section.panels
    [(error, within)] = [panel.references(section.measures)["ridge regression"]]
    assert error >= 0
    assert 0 <= within <= 1
    text = command("report", "--out", tmp_path)
    assert text[0] == 0
    page = (tmp_path / "report.html").read_text()
    assert "ridge regression" in page
    assert "queries within 0.05" in page


def test_few_shot_is_reported_with_the_time_of_its_encoder(
    command, declared, here, tmp_path, image_file
):
    experiment = few_shot_experiment(image_file, rules=("hebbian", "none"))
    declared(replace(experiment, measures=images.MEASURES))
    command("reproduce", "images", "--budget", "smoke", "--out", tmp_path)
    [section] = read_sections(tmp_path)
    run, other = (run for run in section.runs if run.seed == 0)
    seconds = {
        path.parent.name: RunFolder(path.parent).timing()[-1]["seconds"]
        for path in tmp_path.glob("smoke/*/timing.jsonl")
    }
    assert len(seconds) == 6
    encoder, own = run.parts
    assert (encoder, own) == (next(iter(other.parts)), run.name)
    assert run.seconds == pytest.approx(seconds[encoder] + seconds[own])
    assert section.seconds == pytest.approx(sum(seconds.values()))
    assert command("report", "--out", tmp_path)[0] == 0
    page = (tmp_path / "report.html").read_text()
    assert "accuracy, first query (published)" in page
    assert "encoder_run: network.core" in page
    [chance] = (row for row in table(section) if row.name == "chance")
    assert [cell.mean for cell in chance.cells] == ["33.3 %"] * 2


def test_without_experiments_there_is_no_report(command, caplog, tmp_path):
    assert command("report", "--out", tmp_path, "--budget", "paper")[0] == 1
    assert "holds no experiments of the budget paper" in caplog.text


def test_a_folder_of_runs_is_not_one_of_experiments(command, declared, here, caplog, tmp_path):
    declared(NOISE)
    command("reproduce", "tiny", "--budget", "smoke", "--out", tmp_path, "--seeds", 0)
    assert command("report", "--out", tmp_path / "smoke")[0] == 1
    assert "config.json is of no experiment that there is" in caplog.text


def test_the_table_has_the_scores_of_the_runs(tmp_path, declared):
    """With scores that were made up, so that every cell is known."""
    declared(NOISE)
    plan = plan_of(NOISE, tmp_path)
    plan.write_manifest("a command")
    for number, run in enumerate(plan.all_runs()):
        folder = plan.folder(run)
        folder.create(plan.config(run))
        folder.metrics_path.write_text(json.dumps({"step": 6, "val_score": 1.0}) + "\n")
        folder.timing_path.write_text(json.dumps({"step": 6, "seconds": 10.0 + number}) + "\n")
        value = 0.1 * run.config.seed + 0.01 * (run.point["noise"] == "0.5")
        value += 0.001 * (run.point["network"] == "none-rnn")
        references = {"chance": {"score": 1 / 3, "loss": 1 / 6}, "oracle": {"score": 0.04}}
        scores = {"score": value, "loss": 2 + value, "references": references, "eta": None}
        scores["higher_is_better"] = False
        (folder.path / "test.json").write_text(json.dumps(scores))
    (tmp_path / "smoke" / plan.all_runs()[-1].name / "test.json").unlink()
    [section] = read_sections(tmp_path)
    assert section.seconds == sum(range(10, 18))
    rows = {(row.place, row.name): row for row in table(section)}
    both = rows["noise 0.1", "no plasticity, RNN 12"]
    assert (both.runs, both.seconds) == ("2 of 2, 6 steps", "11, 15")
    score, loss = both.cells
    assert (score.mean, score.seeds) == ("0.0510", "0.0010, 0.1010")
    assert score.interval == f"± {12.706 * 0.1 / 2:.4f}"  # of 0.1 over the root of 2, twice
    assert (loss.mean, loss.seeds) == ("2.0510", "2.0010, 2.1010")
    single = rows["noise 0.5", "no plasticity, RNN 12"]
    assert single.cells[0].mean == "0.0110"
    assert (single.cells[0].interval, single.cells[0].seeds) == ("", "")
    assert single.runs == "1 of 2, 6 steps"
    chance, oracle = rows["noise 0.1", "chance"].cells, rows["noise 0.1", "oracle"].cells
    assert [cell.mean for cell in chance] == ["0.3333", "0.1667"]
    assert [cell and cell.mean for cell in oracle] == ["0.0400", None]


def test_the_legend_names_what_any_panel_has(command, declared, here, tmp_path):
    declared(NOISE)
    options = ("--budget", "smoke", "--out", tmp_path, "--only")
    command("reproduce", "tiny", *options, "network=none-rnn", "noise=0.1")
    command("reproduce", "tiny", *options, "noise=0.5", "--seeds", 0)
    [section] = read_sections(tmp_path)
    for name in ("curves", "comparison"):
        labels = [text.get_text() for text in draw(section, name).legends[0].get_texts()]
        networks = {"gradient RNN 8", "no plasticity, RNN 12"}
        assert {*networks, "chance", "oracle", "optimum"} == set(labels)
        assert len(labels) == 5


def test_intervals_are_those_of_student():
    mean, interval = mean_and_interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert interval == pytest.approx(4.303 / 3**0.5)
    assert mean_and_interval([5.0]) == (5, None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (9000, "2.5 h"), (2e5, "2.3 days")],
)
def test_durations_are_written_for_people(seconds, text):
    assert duration(seconds) == text


def test_a_run_uses_one_core(tmp_path):
    jobs = jobs_of(plan_of(NOISE, tmp_path))[0]
    assert seconds_left(jobs, 2) == pytest.approx(seconds_left(jobs, 1) / 2)
    assert seconds_left(jobs, 100) == pytest.approx(max(seconds_left([job], 1) for job in jobs))
    assert seconds_left([], 2) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cue-reward", "few-shot"])
def test_the_smoke_budget_from_end_to_end(name, tmp_path):
    begin = time.monotonic()
    for arguments in (["reproduce", name, "--budget", "smoke"], ["report"]):
        words = [sys.executable, "-m", "train.cli", *arguments, "--out", str(tmp_path)]
        subprocess.run(words, check=True, capture_output=True)
    assert time.monotonic() - begin < 180
    assert "are not finished" not in (tmp_path / "report.html").read_text()
