"""What `plastic reproduce` runs, lists and refuses."""

import json
import re
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from tests.train.tiny_experiments import NOISE, make_experiment
from train.experiments.reproduce import duration


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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (9000, "2.5 h"), (2e5, "2.3 days")],
)
def test_durations_are_written_for_people(seconds, text):
    assert duration(seconds) == text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cue-reward", "few-shot"])
def test_the_smoke_budget_from_end_to_end(name, tmp_path):
    begin = time.monotonic()
    for arguments in (["reproduce", name, "--budget", "smoke"], ["report"]):
        words = [sys.executable, "-m", "train.cli", *arguments, "--out", str(tmp_path)]
        subprocess.run(words, check=True, capture_output=True)
    assert time.monotonic() - begin < 180
    assert "are not finished" not in (tmp_path / "report.html").read_text()
