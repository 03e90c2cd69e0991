"""Records of finished runs, and the page that is made of them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.train.tiny_experiments import NOISE, few_shot_experiment, rl_experiment
from train.experiments.reports.page import page_text, write_page
from train.experiments.reports.records import (
    RunRecord,
    read_recorded,
    read_run_records,
    write_records,
)
from train.experiments.sweep import differences

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "results"


pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def recorded(command, declared, tmp_path):
    """Return a function that runs an experiment with records of it."""

    def run(experiment, *words):
        declared(experiment)
        words = (experiment.name, "--budget", "smoke", "--out", tmp_path / "runs", *words)
        assert command("reproduce", *words, "--record", tmp_path / "results")[0] == 0
        return tmp_path / "results" / "smoke" / f"{experiment.name}.jsonl"

    return run


def test_a_record_says_all_that_it_takes_to_run_it_again(recorded, tmp_path):
    path = recorded(NOISE, "--only", "noise=0.5", "--seeds", 1)
    records = read_run_records(path)
    assert [record.point["network"] for record in records] == ["gradient-rnn", "none-rnn"]
    expected = {run.name: run for run in NOISE.runs("smoke")}
    for record in records:
        folder = tmp_path / "runs" / "smoke" / record.name
        assert record.config == expected[record.name].config
        assert record.settings == differences(record.config)
        assert record.command == (
            "plastic reproduce tiny --budget smoke --only noise=0.5 "
            f"network={record.point['network']} --seeds 1"
        )
        test = json.loads((folder / "test.json").read_text())
        assert record.scores["score"] == pytest.approx(test["score"], rel=1e-5)
        assert record.scores["episodes"] == 20
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        assert [step for step, _ in record.curve] == [json.loads(line)["step"] for line in lines]
        assert record.steps == 6
        assert {"python", "torch", "numpy", "gymnasium"} <= record.versions.keys()
        assert record.processor
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", record.date)
        assert str(tmp_path) not in record.line()


def test_records_accumulate_and_replace_those_of_the_same_run(recorded):
    words = ("--only", "noise=0.5", "network=none-rnn", "--seeds")
    path = recorded(NOISE, *words, 1)
    [old] = path.read_text().splitlines()
    changed = replace(read_run_records(path)[0], seconds={"other": 1.0})
    write_records(path, [changed])
    recorded(NOISE, *words, 0)
    both = path.read_text().splitlines()
    assert [json.loads(line)["seed"] for line in both] == [0, 1]
    assert both[1] == old
    assert not list(path.parent.glob("*.tmp"))


def test_what_comes_first_is_recorded_without_places(recorded, image_file, tmp_path):
    path = recorded(few_shot_experiment(image_file), "--seeds", 0)
    [record] = read_run_records(path)
    assert str(image_file) not in path.read_text()
    assert record.first["encoder_run"]["network.core"] == "prototypical"
    assert len(record.seconds) == 2
    [section] = read_recorded(tmp_path / "results")
    assert section.runs[0].first["encoder_run"].network.core == "prototypical"


def test_agents_are_recorded_too(recorded, tmp_path):
    pytest.importorskip("stable_baselines3", reason="it is not installed: the extra `sb3`")
    records = read_run_records(recorded(rl_experiment()))
    assert {record.kind for record in records} == {"reinforcement"}
    assert [record.config.steps for record in records] == [48, 48]
    assert all("start_from" in record.first for record in records)
    (tmp_path / "docs").mkdir()
    page = write_page(tmp_path / "results", tmp_path / "docs").read_text()
    assert "| no memory |" in page


def test_the_command_writes_the_page_and_its_figures_and_no_old_ones(recorded, command, tmp_path):
    recorded(NOISE, "--only", "noise=0.5")
    docs, records = tmp_path / "docs", tmp_path / "results"
    words = ("report", "--records", records, "--docs", docs)
    assert command(*words)[0] == 1
    figures = docs / "images" / "results"
    figures.mkdir(parents=True)
    (figures / "old.png").touch()
    code, said = command(*words)
    assert (code, said.strip()) == (0, str(docs / "results.md"))
    text = (docs / "results.md").read_text()
    assert text == page_text(records)
    assert "| noise 0.5 | gradient RNN 8 |" in text
    assert "noise 0.1" not in text
    assert "2 of 2, 6 steps" in text
    assert "| seeds | parameters | seconds | CPU seconds |" in text
    [record, *_] = read_run_records(records / "smoke" / "tiny.jsonl")
    assert f"| {record.scores['parameters']} |" in text
    named = re.findall(r"\((images/results/.*?\.png)\)", text)
    assert {docs / name for name in named} == set(figures.iterdir())
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1


GOOD = {
    "name": "a-seed0",
    "kind": "supervised",
    "point": {"noise": "0.1", "network": "none-rnn"},
    "seed": 0,
    "settings": {"steps": 6, "network.rule": "none"},
    "first": {},
    "command": "plastic reproduce tiny",
    "steps": 6,
    "curve": [[0, 0.5], [6, 0.4]],
    "scores": {
        "episodes": 20,
        "score": 0.4,
        "interval": 0.1,
        "loss": 0.2,
        "references": {"chance": {"score": 0.3}},
        "higher_is_better": False,
        "eta": None,
    },
    "seconds": {"a-seed0": 1.0},
    "versions": {"torch": "2"},
    "processor": "one",
    "date": "2026-01-31",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"more": 1}, "unknown 'more'"),
        ({"name": "../a"}, "name must be"),
        ({"kind": "other"}, "kind must be one of"),
        ({"point": {"noise": 3}}, "'noise' must be a line of text"),
        ({"point": 3}, "cannot be read"),
        ({"seed": "0"}, "seed must be an integer"),
        ({"settings": []}, "settings must be an object"),
        ({"command": "a\nb"}, "'command' must be a line of text"),
        ({"steps": -1}, "steps must be an integer"),
        ({"curve": [[0]]}, "cannot be read"),
        ({"curve": [[0, "x"]]}, "a score of the curve must be a finite number"),
        ({"scores": {}}, "cannot be read: KeyError"),
        ({"scores": {**GOOD["scores"], "score": None}}, "score must be a finite number"),
        ({"scores": {**GOOD["scores"], "eta": 3}}, "eta must be a list"),
        ({"seconds": {"a": "b"}}, "seconds must be a finite number"),
        ({"seconds": {"a": -1.0}}, "seconds must be at least 0"),
        ({"scores": {**GOOD["scores"], "parameters": -1}}, "parameters must be at least 0"),
        ({"date": "yesterday"}, "date must be like"),
    ],
    ids=str,
)
def test_a_record_that_is_none_is_refused_by_file_and_field(declared, tmp_path, change, message):
    declared(NOISE)
    path = tmp_path / "smoke" / "tiny.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps(GOOD) + "\n")
    assert RunRecord.read(path, GOOD).line() == path.read_text().strip()
    assert len(read_recorded(tmp_path)) == 1
    path.write_text(json.dumps({**GOOD, **change}) + "\n")
    with pytest.raises(ValueError, match=message) as raised:
        read_recorded(tmp_path)
    assert str(path) in str(raised.value)


def test_a_record_of_nothing_declared_is_refused(declared, tmp_path):
    declared(NOISE)
    path = tmp_path / "smoke" / "tiny.jsonl"
    path.parent.mkdir()
    point = {"noise": "7", "network": "none-rnn"}
    evil = {"task": "somebody:Evil"}
    for change in ({"point": point}, {"seed": 5}, {"settings": evil}, {"first": {"x": {}}}):
        path.write_text(json.dumps({**GOOD, **change}) + "\n")
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read_recorded(tmp_path)
    path.write_text(f"{json.dumps(GOOD)}\n" * 2)
    with pytest.raises(ValueError, match="two records of one point and seed"):
        read_recorded(tmp_path)
    path.rename(path.with_name("other.jsonl"))
    with pytest.raises(ValueError, match="of no experiment"):
        read_recorded(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no records"):
        read_recorded(tmp_path / "nowhere")


def test_every_record_of_the_repository_makes_its_run_again():
    paths = sorted(RESULTS.glob("*/*.jsonl"))
    assert paths
    for path in paths:
        for record in read_run_records(path):
            assert record.config.seed == record.seed
            assert record.config.total_steps == record.steps
            record.first_configs()
    assert read_recorded(RESULTS)


def test_the_page_of_the_repository_is_what_its_records_make():
    text = (ROOT / "docs" / "results.md").read_text()
    assert text == page_text(RESULTS), "run: plastic report --records results --docs docs"
    named = re.findall(r"\((images/results/.*?\.png)\)", text)
    assert all((ROOT / "docs" / name).is_file() for name in named)
