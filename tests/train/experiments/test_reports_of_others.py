"""Folders of experiments that anybody may have made: a report, or one error that names the file."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import train.experiments.reports.report as report_module
from tests.train.tiny_experiments import NOISE, make_experiment, plan_of
from train.experiments import published
from train.experiments.reports.reading import read_sections
from train.experiments.reports.report import caption, table, write_report

TINY = make_experiment(axes=NOISE.axes, measures=NOISE.measures)


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    experiments = {"tiny": TINY, "other": make_experiment("other")}
    monkeypatch.setattr(published, "EXPERIMENTS", experiments)


@pytest.fixture(scope="module")
def make_folder(tmp_path_factory):
    """Return a function that makes a folder of runs, with scores that were made up."""

    def make(finished=8):
        plan = plan_of(TINY, tmp_path_factory.mktemp("out"))
        plan.write_manifest("plastic reproduce tiny")
        for run in plan.all_runs()[:finished]:
            folder = plan.folder(run)
            folder.create(plan.config(run))
            lines = [json.dumps({"step": step, "val_score": 0.5}) for step in (0, 3, 6)]
            folder.metrics_path.write_text("\n".join(lines) + "\n")
            folder.timing_path.write_text(json.dumps({"step": 6, "seconds": 2.0}) + "\n")
            scores = {"score": 0.1, "loss": 0.2, "higher_is_better": False, "eta": [0.1] * 6}
            scores["references"] = {"chance": {"score": 0.3}}
            scores["eta"] = None if run.point["network"] == "none-rnn" else scores["eta"]
            (folder.path / "test.json").write_text(json.dumps(scores))
        return plan.out

    return make


@pytest.fixture(scope="module")
def shared(make_folder):
    return make_folder()


def read_all(out):
    """Do all that a report does, but for drawing."""
    for section in read_sections(out):
        rows = table(section)
        said = [section.standing, section.command, *report_module._versions(section)]
        said += [run.status for run in section.runs]
        said += [f"{k}={v}" for k, v in report_module._settings(section).items()]
        said += [caption(section, name) for name in section.experiment.figures]
        assert rows
        assert section.seconds >= 0
        assert all(text.isprintable() for text in said)


def changed(content, keys, value):
    """Return a JSON value with another one in some place of it."""
    if not keys:
        return value
    copy = content.copy()
    copy[keys[0]] = changed(content[keys[0]] if len(keys) > 1 else None, keys[1:], value)
    return copy


MANIFEST = "smoke/tiny.json"
ODD = [
    (["budget"], "/../../../../x"),
    (["budget"], "paper"),
    (["budget"], None),
    (["experiment"], ["tiny"]),
    (["experiment"], "../tiny"),
    (["runs"], []),
    (["runs"], {"a": 1}),
    (["runs", 0], None),
    (["runs", 0], {}),
    (["runs", 0, "folder"], "../../elsewhere"),
    (["runs", 0, "folder"], ".."),
    (["runs", 0, "folder"], "/etc"),
    (["runs", 0, "folder"], "a\x00b"),
    (["runs", 0, "seed"], "0"),
    (["runs", 0, "seed"], True),
    (["runs", 0, "seed"], 1),  # of which there is one already
    (["runs", 0, "seed"], 5),  # of which the folder is none
    (["runs", 0, "point"], []),
    (["runs", 0, "point", "network"], "<script>-rnn"),
    (["runs", 0, "point", "noise"], "$\\frac$"),
]


@pytest.mark.parametrize(("keys", "value"), ODD, ids=str)
def test_an_odd_manifest_is_refused_by_name(shared, keys, value):
    path = shared / MANIFEST
    before = path.read_text()
    path.write_text(json.dumps(changed(json.loads(before), keys, value)))
    try:
        with pytest.raises(ValueError, match=r"\.json") as raised:
            read_all(shared)
    finally:
        path.write_text(before)
    assert len(str(raised.value)) < 1_000
    assert str(shared / "smoke") in str(raised.value)


CONTENTS = ["", "[]", "3", "NaN", "null", '{"a": ', "[" * 100_000, '{"a":' * 100_000, "\x00\xff"]
FILES = ["test.json", "metrics.jsonl", "timing.jsonl", "versions.json", "config.json"]


@pytest.mark.parametrize("name", [MANIFEST, *FILES])
def test_files_that_hold_something_else_are_refused_by_name(shared, name):
    path = shared / name
    if name != MANIFEST:
        path = next(shared.glob("smoke/*-none-rnn*/config.json"), None) or next(
            shared.glob("smoke/*/config.json")
        )
        path = path.with_name(name)
    before = path.read_bytes()
    try:
        for content in CONTENTS:
            path.write_bytes(f"{content}\n".encode("latin-1"))
            with pytest.raises(ValueError, match=re.escape(str(path))) as raised:
                read_all(shared)
            assert len(str(raised.value)) < 1_000
        path.unlink()
        path.mkdir()  # as if it were not there, or an error of the system that names it
        told = None
        try:
            read_all(shared)
        except (OSError, ValueError) as error:
            told = str(error)
        path.rmdir()
        assert told is None or str(shared) in told
    finally:
        path.write_bytes(before)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
KEYS = {
    "test.json": ["score", "eta", "references", "higher_is_better"],
    "metrics.jsonl": ["step", "val_score"],
    "timing.jsonl": ["step", "seconds"],
    "versions.json": ["python", "torch"],
}


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(list(KEYS)), number=st.integers(0, 9), value=VALUES)
@example(name="test.json", number=0, value=10**400)
@example(name="test.json", number=1, value=[1.0] * 5)
@example(name="test.json", number=2, value={"<b>": {"score": 1.0}})
@example(name="metrics.jsonl", number=0, value=-1)
@example(name="timing.jsonl", number=1, value=-15)
@example(name="versions.json", number=0, value="\x1b[31m<script>")
def test_odd_values_give_a_report_or_an_error_that_names_the_file(shared, name, number, value):
    path = next(path.with_name(name) for path in shared.glob("smoke/*/config.json"))
    key = KEYS[name][number % len(KEYS[name])]
    before = path.read_bytes()
    record = json.loads(before.splitlines()[-1] if name.endswith("l") else before)
    path.write_text(json.dumps({**record, key: value}) + "\n")
    told = None
    try:
        read_all(shared)
    except ValueError as error:
        told = str(error)
    finally:
        path.write_bytes(before)
    assert told is None or (str(path) in told and len(told) < 1_000)


def test_text_of_others_is_no_markup(make_folder, monkeypatch):
    out = make_folder()
    evil = "<script>alert(1)</script> ``` $x$ | [a](b) *c* \x1b[31m\u202e"
    manifest = json.loads((out / MANIFEST).read_text())
    (out / MANIFEST).write_text(json.dumps({**manifest, "command": evil}))
    folder = next(out.glob("smoke/*/config.json")).parent
    (folder / "versions.json").write_text(json.dumps({"python": evil}))
    (folder / "failed.txt").write_text(evil)
    (folder / "test.json").unlink()
    monkeypatch.setattr(report_module, "draw", lambda *_: None)
    page, text = (path.read_text() for path in write_report(out))
    for written in (page, text):
        assert "\x1b" not in written
        assert "\u202e" not in written
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 3
    fence = "\n````\n" + evil.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e") + "\n````\n"
    assert fence in text
    outside = text.replace(fence, "")
    assert outside.count("&lt;script&gt;") == 2
    assert outside.count(r"\[a\](b) \*c\*") == 2
    assert "<script" not in outside


def test_nothing_is_written_outside_the_folder(make_folder, monkeypatch, tmp_path):
    out = make_folder()
    mine = tmp_path / "mine"
    mine.write_text("mine")
    for name in ("report.html", "report.md", "report.html.tmp", "report.md.tmp"):
        (out / name).symlink_to(mine)
    monkeypatch.setattr(report_module, "draw", lambda *_: None)
    write_report(out)
    assert mine.read_text() == "mine"
    assert not (out / "report.html").is_symlink()
    (out / "figures").rmdir()
    (out / "figures").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="figures is a link"):
        write_report(out)
    assert list(tmp_path.iterdir()) == [mine]


def test_a_report_says_what_its_data_says(make_folder, command, monkeypatch):
    def said(out):
        assert command("report", "--out", out)[0] == 0
        return (out / "report.html").read_text(), (out / "report.md").read_text()

    nothing, some, all_runs = (make_folder(finished) for finished in (0, 5, 8))
    for text in said(nothing):
        assert "None of 8 runs was started: nothing here speaks for it or against it." in text
        assert "Settings: ." not in text
        assert "seeds, bands" not in text
    for text in said(some):
        assert "3 of 8 runs are not finished" in text
        assert "everything works" not in text
        assert text.count("not started") == 3
        assert "means over 1 to 2 seeds" in text
        assert "1 of 2, 6 steps" in text
    for text in said(all_runs):
        assert "All of 8 runs are finished" in text
        assert "far too small to speak for it or against it" in text
        assert "means over 2 seeds" in text
        assert "three seeds" not in text
        assert "A claim." in text
        assert all("xpected" in line for line in text.splitlines() if "A claim." in line)
    [section] = read_sections(all_runs)
    assert "How far it holds is for the numbers" in replace(section, budget="laptop").standing


def test_one_run_that_is_not_finished_is_one(make_folder):
    [section] = read_sections(make_folder(7))
    assert section.standing.startswith("1 of 8 runs is not finished.")


def test_a_run_that_failed_before_its_first_validation_failed(make_folder):
    out = make_folder()
    [section] = read_sections(out)
    folder = section.runs[0].folder
    for path in (folder.metrics_path, folder.timing_path, folder.path / "test.json"):
        path.unlink()
    (folder.path / "failed.txt").write_text("no memory\n")
    [section] = read_sections(out)
    assert section.runs[0].status == "failed before its first validation: no memory"


def test_settings_that_name_something_else_are_told_before_anything_is_made_of_them(make_folder):
    out = make_folder()
    path = next(out.glob("smoke/*/config.json"))
    content = json.loads(path.read_text())
    for name, value in (("task", "somebody:Evil"), ("seed", 9), ("kind", "reinforcement")):
        path.write_text(json.dumps({**content, name: value}))
        with pytest.raises(ValueError, match=re.escape(str(path))) as raised:
            read_all(out)
        assert "must be of" in str(raised.value)
