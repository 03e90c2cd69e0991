"""The report: one page of figures and tables, made of whatever has been run."""

import base64
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from train.experiments import published
from train.experiments.files import plain
from train.experiments.reports.figures import draw
from train.experiments.reports.reading import read_sections
from train.experiments.reports.results import Group, Panel, Section
from train.experiments.reports.runs import RunResult
from train.experiments.sweep import NETWORK_NAMES, Config, FigureName, Measure, differences
from train.wording import duration

_SHOWN: dict[FigureName, str] = {
    "curves": "Scores on the validation episodes while training.",
    "comparison": "Scores on the test episodes, at the best validation. A dot is a seed",
    "eta": "Plasticity rate η, as applied, at each step of a test episode: how fast the network "
    "lets itself change.",
}

_HIDDEN = ("seed", "threads", "device")
_IN_THE_TITLE = (*NETWORK_NAMES, "network.core_settings.hidden_size")


@dataclass(frozen=True)
class Cell:
    """A number of a table with its half-width at 95 %, and its values by seed."""

    mean: str
    interval: str
    seeds: str


@dataclass(frozen=True)
class Row:
    """A line of a table: a network at one place, or a reference."""

    place: str
    name: str
    cells: tuple[Cell | None, ...]
    runs: str
    parameters: str = ""
    seconds: str = ""
    cpu_seconds: str = ""
    reference: bool = False


@dataclass(frozen=True)
class Picture:
    """A figure with what is said of it."""

    name: str
    png: bytes
    caption: str

    @property
    def base64(self) -> str:
        """The picture as text, to be put into a page."""
        return base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Chapter:
    """A section of the report, ready to be written."""

    section: Section
    pictures: tuple[Picture, ...]
    rows: tuple[Row, ...]
    settings: tuple[tuple[str, str], ...]
    versions: tuple[str, ...]
    duration: str


def write_report(out: Path, budget: str | None = None) -> tuple[Path, Path]:
    """Write `report.html`, which needs no other file, and `report.md` with `figures/`.

    Args:
        out: Folder of all experiments; the report goes there.
        budget: Leave out other budgets than this.

    Returns:
        Both paths.

    Raises:
        FileNotFoundError: If no experiment was begun.
        ValueError: If the folder holds something else.
    """
    chapters = [chapter_of(section) for section in read_sections(out, budget)]
    figures = out / "figures"
    if figures.is_symlink():
        raise ValueError(f"{figures} is a link: the report is written into {out} alone")
    figures.mkdir(exist_ok=True)
    for chapter in chapters:
        for picture in chapter.pictures:
            write_file(figures / f"{picture.name}.png", picture.png)
    begun = {chapter.section.experiment.name for chapter in chapters}
    content: dict[str, Any] = {
        "chapters": chapters,
        "absent": [e for e in published.EXPERIMENTS.values() if e.name not in begun],
        "today": date.today().isoformat(),
    }
    page, text = out / "report.html", out / "report.md"
    for path, templates in ((page, templates_for()), (text, templates_for(markdown=True))):
        written = templates.get_template(f"{path.name}.j2").render(content)
        write_file(path, written.encode(errors="backslashreplace"))
    return page, text


class _Code(str):
    """Markdown that is ready."""

    __slots__ = ()


def templates_for(*, markdown: bool = False) -> Environment:
    """Return what fills templates in: whatever it fills in is text, and no markup."""
    templates = Environment(
        loader=PackageLoader("train.experiments.reports"),
        autoescape=not markdown,  # noqa: S701 (Markdown is escaped by `finalize`)
        finalize=_markdown if markdown else None,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"code": _code, "fence": _fence, "ready": _Code}
    return templates


def _markdown(value: object) -> str:
    if isinstance(value, _Code):
        return value
    text = str(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"[\\`*\[\]|$~]|\b_|_\b", r"\\\g<0>", text)


def _code(value: object) -> _Code:
    """Write a value as code within a line of Markdown."""
    text = str(value)
    fence = _longer(text, 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return _Code(f"{fence}{space}{text}{space}{fence}")


def _fence(value: object) -> _Code:
    """Write a value as lines of code."""
    fence = _longer(str(value), 3)
    return _Code(f"{fence}\n{value}\n{fence}")


def _longer(text: str, least: int) -> str:
    """Return more backticks than stand side by side in a text."""
    return "`" * max(least, *(len(run) + 1 for run in re.findall("`+", text)), least)


def write_file(path: Path, content: bytes) -> None:
    """Write a file aside and move it into place: links that lie there already lead nowhere."""
    aside = path.with_name(path.name + ".tmp")
    aside.unlink(missing_ok=True)
    with aside.open("xb") as file:
        file.write(content)
    aside.replace(path)


def table(section: Section) -> list[Row]:
    """Return the lines of an experiment's table: each network, and what it is compared with."""
    rows = []
    for panel in section.panels:
        rows += [_row(panel, group, section.measures) for group in panel.groups]
        rows += _reference_rows(panel, section.measures)
    return rows


def chapter_of(section: Section) -> Chapter:
    """Draw and write down what there is of an experiment."""
    pictures = []
    for name in section.experiment.figures:
        if (figure := draw(section, name)) is not None:
            label = f"{section.name}-{section.budget}-{name}"
            pictures.append(Picture(label, _png(figure), caption(section, name)))
    return Chapter(
        section,
        tuple(pictures),
        tuple(table(section)),
        tuple(_settings(section).items()),
        tuple(_versions(section)),
        duration(section.seconds),
    )


def caption(section: Section, name: FigureName) -> str:
    """Say what a figure shows, and of how many seeds."""
    groups = [group for panel in section.panels for group in panel.groups]
    if name == "curves":
        counts = [len(group.curves()[1]) for group in groups]
    elif name == "eta":
        counts = [0 if (eta := group.eta()) is None else len(eta) for group in groups]
    else:
        several = any(len(group.finished) > 1 for group in groups)
        return f"{_SHOWN[name]}, lines are means." if several else f"{_SHOWN[name]}."
    return f"{_SHOWN[name]} {_lines(count for count in counts if count)}"


def _lines(counts: Iterable[int]) -> str:
    """Say what lines are, each of which is of some seeds."""
    found = sorted(set(counts))
    if not found or found[-1] == 1:
        return "Each line is one seed."
    bands = "bands reach from the lowest to the highest seed"
    if len(found) == 1:
        return f"Lines are means over {found[0]} seeds, {bands}."
    return f"Lines are means over {found[0]} to {found[-1]} seeds, {bands} where there are several."


def _row(panel: Panel, group: Group, measures: Sequence[Measure]) -> Row:
    cells = tuple(_cell(group, measure) for measure in measures)
    parameters = sorted({f"{count:,.0f}" for count in group.values("parameters")})
    return Row(
        panel.title,
        group.title,
        cells,
        group.extent,
        " or ".join(parameters),
        ", ".join(f"{run.seconds:.0f}" for run in group.finished),
        ", ".join(f"{seconds:.0f}" for seconds in group.values("cpu_seconds")),
    )


def _cell(group: Group, measure: Measure) -> Cell | None:
    values, (mean, interval) = group.values(measure.key), group.summary(measure.key)
    if not len(values):
        return None
    return Cell(
        measure.format(mean),
        "" if interval is None else f"± {measure.format(interval)}",
        ", ".join(measure.format(value) for value in values) if len(values) > 1 else "",
    )


def _reference_rows(panel: Panel, measures: Sequence[Measure]) -> list[Row]:
    return [
        Row(
            panel.title,
            name,
            tuple(
                None if value is None else Cell(measure.format(value), "", "")
                for measure, value in zip(measures, values, strict=True)
            ),
            "",
            reference=True,
        )
        for name, values in panel.references(measures).items()
    ]


def _settings(section: Section) -> dict[str, str]:
    """Return the settings that differ from the defaults: shared by all runs, then by each network.

    What an axis varies is in the table, and left out here.
    """
    shared = _common([run.config for run in section.runs])
    found = {name: plain(value) for name, value in shared.items()}
    networks: dict[str, list[RunResult]] = {}
    for group in (group for panel in section.panels for group in panel.groups):
        networks.setdefault(group.title, []).extend(group.runs)
    for title, runs in networks.items():
        for name, value in _common([run.config for run in runs]).items():
            if name not in shared and name not in _IN_THE_TITLE:
                found[f"{title}: {name}"] = plain(value)
    before = [run.first for run in section.runs]
    for into in dict.fromkeys(into for first in before for into in first):
        common = _common([first[into] for first in before if into in first])
        found |= {f"{into}: {name}": plain(value) for name, value in common.items()}
    return found


def _common(configs: Sequence[Config | None]) -> dict[str, Any]:
    """Return the settings that differ from the defaults and are the same in all runs begun."""
    flat = [differences(config) for config in configs if config is not None]
    return {
        name: value
        for name, value in (flat[0].items() if flat else ())
        if name not in _HIDDEN and all(name in each and each[name] == value for each in flat)
    }


def _versions(section: Section) -> list[str]:
    """Return on what the runs ran, a line for each that differs."""
    found = set()
    for run in section.runs:
        if versions := {name: value for name, value in run.versions.items() if name != "date"}:
            told = [f"{name} {value}" for name, value in versions.items() if value]
            found.add(plain(", ".join(told)))
    return sorted(found)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
