import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import train.experiments.demo as demo_module
from tests.train.tiny_experiments import HereExecutor
from train.experiments.demo import DEMO, DemoConfig, run_demo
from train.experiments.job import score
from train.runs.run_folder import RunFolder
from train.scoring.evaluation import evaluate

WORDS = ("--steps", 2, "--batch-size", 4)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Make the networks of the demonstration tiny, and score them on few episodes."""
    laptop, smoke = DEMO.budgets["laptop"], DEMO.budgets["smoke"]
    settings = {**laptop.settings, "eval_episodes": 20}
    budget = replace(laptop, networks=smoke.networks, settings=settings)
    monkeypatch.setattr(demo_module, "DEMO", replace(DEMO, budgets={"laptop": budget}))
    monkeypatch.setattr(demo_module, "evaluate", partial(evaluate, num_episodes=20))
    monkeypatch.setattr("train.experiments.job.score", lambda folder: score(folder, 20))


@pytest.fixture
def here(monkeypatch):
    """Run its jobs in this process; yields the executors that were made."""
    made = []

    def executor(_):
        made.append(HereExecutor())
        return made[-1]

    monkeypatch.setattr(demo_module, "LocalProcesses", executor)
    return made


@pytest.mark.slow
def test_any_number_of_processes_makes_the_same(command, here, tmp_path, monkeypatch):
    monkeypatch.undo()
    one, two = (DemoConfig(tmp_path / str(n), 4, 4, processes=n) for n in (1, 2))
    first, second = (run_demo(config, progress=False) for config in (one, two))
    for left, right in zip(first, second, strict=True):
        assert left["score"] == right["score"]
        assert RunFolder(Path(left["run"])).metrics() == RunFolder(Path(right["run"])).metrics()


def test_the_demo_compares_networks_and_goes_on_with_what_is_there(command, here, tmp_path):
    words = ("demo", "--out", tmp_path / "demo", *WORDS)
    code, printed = command(*words, "--json")
    rows = [json.loads(line) for line in printed.splitlines()]
    assert code == 0
    names = ["gradient RNN 8", "Hebbian RNN 8", "no plasticity, RNN 12"]
    assert [row["network"] for row in rows] == [*names, "mesa", "attention"]
    assert [row["parameters"] for row in rows[2:]] == [958, 10674, 9603]
    assert len({tuple(row) for row in rows}) == 1
    assert all(row["agree"] and row["seconds"] >= 0 for row in rows)
    assert {row["figure"] for row in rows} == {str(tmp_path / "demo" / "comparison.png")}
    assert (tmp_path / "demo" / "comparison.png").stat().st_size > 0

    last = here[0].paths[-1]
    (last / "test.json").unlink()
    assert command(*words, "--json") == (0, printed)
    assert here[1].paths == [last]
    code, printed = command(*words)
    assert here[2].paths == []
    assert "Learning curves" in printed
    table = [line.split("  ")[0] for line in printed.splitlines()[1:-1]]
    assert table == ["network", *[row["network"] for row in rows], "chance", "oracle", "optimum"]
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_the_demonstration_is_an_experiment():
    runs = demo_module.DEMO.runs("laptop")
    names = {run.name for run in runs}
    assert {run.name for run in DemoConfig().plan().all_runs()} == names
    for other in (DemoConfig(seed=1), DemoConfig(steps=5)):  # in folders of their own
        assert names.isdisjoint(run.name for run in other.plan().all_runs())


def test_no_processes_are_too_few(command, caplog, tmp_path):
    assert command("demo", "--out", tmp_path / "demo", "--processes", 0) == (1, "")
    assert "processes must be an integer of at least 1, got 0" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_cannot_be_trained_is_told(command, caplog, tmp_path, monkeypatch):
    failing = HereExecutor(lambda path: "none" in path.name)
    monkeypatch.setattr(demo_module, "LocalProcesses", lambda _: failing)
    assert command("demo", "--out", tmp_path / "demo", *WORDS) == (1, "")
    assert "seed0 could not be trained: told to" in caplog.text
