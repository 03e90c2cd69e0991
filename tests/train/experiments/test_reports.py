"""Reports and figures of experiments that were run, and what they say is missing."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.train.tiny_experiments import NOISE, few_shot_experiment, make_experiment, plan_of
from train.experiments.published import images
from train.experiments.published.paper import MEASURES
from train.experiments.reports.figures import draw
from train.experiments.reports.reading import read_sections
from train.experiments.reports.report import table
from train.experiments.reports.results import mean_and_interval
from train.runs.run_folder import RunFolder


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


def test_a_folder_of_runs_is_not_one_of_experiments(command, declared, caplog, tmp_path):
    declared(NOISE)
    plan = plan_of(NOISE, tmp_path)
    plan.write_manifest("a command")
    for run in plan.all_runs():
        plan.folder(run).create(plan.config(run))
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
