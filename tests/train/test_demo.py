import json
from functools import partial

import pytest

import train.demo
from train.demo import DemoConfig, run_demo
from train.evaluation import evaluate
from train.run_folder import RunFolder


@pytest.fixture
def tiny(monkeypatch):
    """Make the networks of the demonstration tiny; the worker processes are told the sizes."""
    sizes = (("gradient", 8), ("hebbian", 8), ("none", 12))
    monkeypatch.setattr(train.demo, "RUNS", sizes)
    monkeypatch.setattr(train.demo, "evaluate", partial(evaluate, num_episodes=20))


def test_the_demo_compares_three_networks_in_any_number_of_processes(tiny, command, tmp_path):
    out = tmp_path / "demo"
    results = run_demo(DemoConfig(out=out, steps=4, batch_size=4, processes=2), progress=False)
    assert [result["rule"] for result in results] == ["gradient", "hebbian", "none"]
    assert len({tuple(result) for result in results}) == 1
    assert all(result["agree"] and result["seconds"] > 0 for result in results)
    assert (out / "comparison.png").stat().st_size > 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

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
