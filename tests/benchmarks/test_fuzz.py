"""Whatever is public works with odd values or refuses them clearly; and the fuzzer can tell."""

import json
import sys

import pytest

pytest.importorskip("stable_baselines3", reason="agents that act are fuzzed as well")

from benchmarks.fuzz import __main__ as program
from benchmarks.fuzz.surface import targets
from benchmarks.fuzz.worker import KINDS, Worker
from tests.benchmarks.fuzz_kinds.faults import ENDS

CASES = {"arguments": 60, "actions": 50, "files": 30, "runs": 8, "commands": 10}


@pytest.fixture(scope="module")
def worker():
    with Worker() as worker:
        yield worker


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_odd_values_work_or_are_refused_clearly(kind, times, worker):
    """The slow tests try others, and more of them."""
    seed = int(times > 1)
    tried = [worker.run(kind, seed, case) for case in range(times * CASES[kind])]
    others = [f"{t.case}: {t.call}\n    {t.detail}" for t in tried if t.outcome == "other"]
    assert not others, "\n".join([f"{len(others)} of {len(tried)}", *others])
    assert {"worked", "refused"} <= {t.outcome for t in tried}


def test_every_end_of_a_case_is_told_from_the_others():
    tried = {}
    with Worker(package="tests.benchmarks.fuzz_kinds") as worker:
        for case, name in enumerate(ENDS):
            worker.seconds = 1 if name == "hangs" else 60
            found = worker.run("faults", 0, case)
            tried[found.call] = found
    assert list(tried) == list(ENDS)
    found = {name: t.detail.split(" ")[0] for name, t in tried.items() if t.outcome == "other"}
    assert found == {
        "does not say what": "names",
        "says too much": "an",
        "means another error": "KeyError:",
        "is wrong": "wrong:",
        "exits": "SystemExit:",
        "crashes": "crashes",
        "hangs": "hangs",
        "takes memory": "takes",
        "takes all memory": "MemoryError:",
    }
    assert {t.call for t in tried.values() if t.outcome == "worked"} == {"works"}
    assert "faults.py" in tried["hangs"].detail
    assert "faults.py" in tried["crashes"].detail


def test_what_is_public_is_found():
    parameters = {target.call: target.parameters for target in targets()}
    assert len(parameters) > 60
    for call in ("agents.PlasticNetwork({})", "agents.sb3.RecurrentPPO({})"):
        assert len(parameters[call]) > 8
    assert "log_std_init" in parameters["agents.sb3.PlasticPolicy({})"]  # told to be passed on
    assert "num_arms" in parameters["gym.make_vec('PlasticBandit-v0', {})"]


def test_a_case_can_be_run_again(worker, monkeypatch, capsys):
    words = ["fuzz", "--only", "actions", "--seed", "3", "--case", "5", "--json"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        program.main()
    case, counts = map(json.loads, capsys.readouterr().out.splitlines())
    assert counts["tried"] == 1
    assert case == worker.run("actions", 3, 5)._asdict()
