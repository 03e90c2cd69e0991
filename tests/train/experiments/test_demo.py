import json
from functools import partial

import pytest

import train.demo
from tests.train.tiny_experiments import HereExecutor
from train.demo import DemoConfig, run_demo
from train.runs.run_folder import RunFolder
from train.scoring.networks import evaluate


@pytest.fixture
def tiny(monkeypatch):
    """Make the networks of the demonstration tiny."""
    sizes = (("gradient", 8), ("hebbian", 8), ("none", 12))
    monkeypatch.setattr(train.demo, "RUNS", sizes)
    monkeypatch.setattr(train.demo, "evaluate", partial(evaluate, num_episodes=20))


@pytest.mark.slow
def test_the_demo_compares_three_networks_in_any_number_of_processes(
    tiny, command, tmp_path, monkeypatch
):
    out = tmp_path / "demo"
    results = run_demo(DemoConfig(out=out, steps=4, batch_size=4, processes=2), progress=False)
    assert [result["rule"] for result in results] == ["gradient", "hebbian", "none"]
    assert len({tuple(result) for result in results}) == 1
    assert all(result["agree"] and result["seconds"] > 0 for result in results)
    assert (out / "comparison.png").stat().st_size > 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    monkeypatch.setattr(train.demo, "LocalProcesses", lambda _: HereExecutor())
    sizes = ["--steps", 4, "--batch-size", 4, "--processes", 1]
    code, printed = command("demo", "--out", out, *sizes, "--json")
    rows = [json.loads(line) for line in printed.splitlines()]
    assert code == 0
    assert [row["run"] for row in rows] == [
        str(tmp_path / "demo-2" / rule) for rule in ("gradient", "hebbian", "none")
    ]
    assert {row["figure"] for row in rows} == {str(tmp_path / "demo-2" / "comparison.png")}
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    for result, row in zip(results, rows, strict=True):
        assert result["score"] == row["score"]
        one, other = (RunFolder(out.with_name(name) / row["rule"]) for name in ("demo", "demo-2"))
        assert one.metrics() == other.metrics()


def test_a_demonstration_goes_on_with_what_is_there(tiny, command, tmp_path, monkeypatch):
    made = []

    def executor(_):
        made.append(HereExecutor())
        return made[-1]

    monkeypatch.setattr(train.demo, "LocalProcesses", executor)
    words = ("demo", "--out", tmp_path / "demo", "--steps", 2, "--batch-size", 4)
    assert command(*words)[0] == 0
    last = made[0].paths[-1]
    (last / "test.json").unlink()
    assert command(*words)[0] == 0
    assert made[1].paths == [last]
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_no_processes_are_too_few(command, caplog, tmp_path):
    assert command("demo", "--out", tmp_path / "demo", "--processes", 0) == (1, "")
    assert "processes must be an integer of at least 1, got 0" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_cannot_be_trained_is_told(tiny, command, caplog, tmp_path, monkeypatch):
    failing = HereExecutor(lambda path: path.name == "none")
    monkeypatch.setattr(train.demo, "LocalProcesses", lambda _: failing)
    out = tmp_path / "demo"
    assert command("demo", "--out", out, "--steps", 2, "--batch-size", 4) == (1, "")
    assert f"{out / 'none'} could not be trained: told to" in caplog.text
