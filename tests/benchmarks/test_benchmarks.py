import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

import plastic_envs
from agents.memories.updates import UPDATES
from agents.plastic.cells import CELLS
from agents.plastic.rules import RULES
from benchmarks import env_speed, memory_parity, memory_speed, parity


@pytest.fixture
def rows(monkeypatch, capsys):
    """Return a function that runs a benchmark in this process and returns its JSON lines."""

    def call(program, *arguments):
        monkeypatch.setattr(sys, "argv", [program.__name__, *map(str, arguments), "--json"])
        program.main()
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return call


@pytest.fixture
def some_cases(monkeypatch):
    """Let a sixth of the cases stand for all of them."""
    for name in ("own_errors", "memory_cases"):
        cases = getattr(parity, name)
        monkeypatch.setattr(parity, name, lambda cases=cases: islice(cases(), 0, None, 6))


def test_there_is_a_case_of_every_rule_and_cell(monkeypatch):
    monkeypatch.setattr(parity, "run_case", lambda *_: {})
    cases = [name for name, _ in parity.own_errors()]
    assert len(set(cases)) == 3 * len(CELLS) * sum(rule.plastic for rule in RULES.values())


def test_the_forms_agree(rows, some_cases):
    *cases, total = rows(parity)
    assert total["cases"] == len(cases)
    assert total["worst_relative_error"] == max(case["worst_relative_error"] for case in cases)
    assert total["worst_relative_error"] <= 1e-9
    of_memories = [case for case in cases if case["forms"].keys() >= {"sequence", "numpy"}]
    of_networks = [case for case in cases if "closed" in case["forms"]]
    assert len(of_memories) > 5 < len(of_networks)
    assert len(of_memories) + len(of_networks) == len(cases)
    assert {type(make(1, 1, 1)) for make in memory_parity.UPDATES.values()} == {*UPDATES.values()}


def test_a_wrong_number_of_a_memory_is_reported(rows, monkeypatch):
    monkeypatch.setattr(parity, "own_errors", list)
    original = memory_parity.numpy_results

    def spoiled(*args):
        return original(*args) | {"reads": original(*args)["reads"] + 1e-6}

    cases = memory_parity.memory_cases()
    monkeypatch.setattr(parity, "memory_cases", lambda: islice(cases, 1))
    monkeypatch.setattr(memory_parity, "numpy_results", spoiled)
    assert 1e-8 < rows(parity)[-1]["worst_relative_error"] < 1e-5


def test_a_wrong_number_is_reported(rows, some_cases, monkeypatch):
    original = parity.run_case

    def spoiled(net, form, *args):
        results = original(net, form, *args)
        return results | {"hidden.h": results["hidden.h"] * (1 + 1e-6 * (form == "closed"))}

    monkeypatch.setattr(parity, "run_case", spoiled)
    assert 1e-7 < rows(parity)[-1]["worst_relative_error"] < 1e-5


@pytest.mark.slow
def test_the_speed_of_every_environment_is_measured():
    arguments = ["--seconds", "0.01", "--repeats", "1", "--num-envs", "4", "--json"]
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.env_speed", *arguments],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = [json.loads(line) for line in process.stdout.splitlines()]
    assert {row["env"] for row in found} == set(plastic_envs.ids())
    for env_id in plastic_envs.ids():
        how = [row["how"] for row in found if row["env"] == env_id]
        expected = ["single, unwrapped", "gym.make", "make_vec, 4"]
        if isinstance(plastic_envs.make_task(env_id), plastic_envs.SequenceTask):
            expected.append("sample_episodes, 64")
        assert how == expected
    assert all(0 < row["worst"] <= row["median"] <= row["best"] for row in found)


def test_repeats_are_ordered(rows):
    found = rows(env_speed, "--seconds", "0.001", "--repeats", "3", "--num-envs", "2")
    assert all(0 < row["worst"] <= row["median"] <= row["best"] for row in found)


def test_memory_speed(rows, monkeypatch):
    monkeypatch.setattr(memory_speed, "OPTIONS", {"mesa": {}, "delta": {}})
    training, acting = [], []
    for row in rows(memory_speed, "--quick", "--key-size", 8):
        (training if row["what"] == "training step" else acting).append(row)
    assert [row["core"] for row in training] == ["mesa", "delta", "lstm", "gru"]
    assert [row["core"] for row in acting] == ["mesa", "delta", "lstm", "gru"]
    sizes = [row["parameters"] for row in training]
    assert max(sizes) < 1.1 * min(sizes)
    assert training[2]["times_lstm"] == 1
    assert all(row["cpu_seconds"] > 0 for row in training)
    assert all(row["steps_per_second"] > 0 for row in acting)
