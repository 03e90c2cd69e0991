"""Experiments are run, cut off and gone on with."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import train.experiments.command as command_module
from tests.train.tiny_experiments import (
    NOISE,
    HereExecutor,
    few_shot_experiment,
    jobs_of,
    make_experiment,
    plan_of,
    rl_experiment,
)
from train.experiments.job import is_finished, prepare, run_job, score
from train.experiments.reports.figures import draw
from train.experiments.reports.reading import read_sections
from train.experiments.reproduce import run_missing, seconds_left, selected, stages
from train.experiments.sweep import Axis
from train.runs.run_folder import RLRunFolder, RunFolder


def scores_of(folder):
    """What the test found, but for the time that training took."""
    scores = json.loads((folder.path / "test.json").read_text())
    del scores["cpu_seconds"]
    return scores


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
    assert scores_of(folder) == scores_of(whole)


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
    from train.scoring.evaluation import evaluate

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
    assert scores_of(folder) == scores_of(whole)


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


def test_a_run_uses_one_core(tmp_path):
    jobs = jobs_of(plan_of(NOISE, tmp_path))[0]
    assert seconds_left(jobs, 2) == pytest.approx(seconds_left(jobs, 1) / 2)
    assert seconds_left(jobs, 100) == pytest.approx(max(seconds_left([job], 1) for job in jobs))
    assert seconds_left([], 2) == 0
