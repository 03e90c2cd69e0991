"""The page of results in the documentation: made of the records in the repository, by one command.

Text and figures say what the records say and nothing else. Numbers of before there were records are
in `earlier.json` beside them, with the command and date of each, and are shown as such.
"""

from pathlib import Path
from typing import Any

from plastic_envs.checks import shown
from train.experiments.files import plain, read_object
from train.experiments.reports.records import read_recorded
from train.experiments.reports.report import chapter_of, templates_for, write_file

PAGE = "results.md"
IMAGES = Path("images", "results")
EARLIER = "earlier.json"


def write_page(records: Path, docs: Path) -> Path:
    """Write `results.md` and its figures, in place of those of before.

    Args:
        records: Folder of records.
        docs: Folder of the documentation.

    Returns:
        The page.

    Raises:
        FileNotFoundError: If there are no records, or no such folder.
        ValueError: If there is something else in place of records.
    """
    if not docs.is_dir():
        raise FileNotFoundError(f"{docs} is no folder: --docs is that of the documentation")
    figures = docs / IMAGES
    figures.mkdir(parents=True, exist_ok=True)
    chapters = [chapter_of(section) for section in read_recorded(records)]
    drawn = {f"{p.name}.png": p.png for chapter in chapters for p in chapter.pictures}
    for path in figures.glob("*.png"):
        if path.name not in drawn:
            path.unlink()
    for name, png in drawn.items():
        write_file(figures / name, png)
    write_file(docs / PAGE, _text(chapters, records).encode())
    return docs / PAGE


def page_text(records: Path) -> str:
    """Return the text of the page that records make."""
    sections = read_recorded(records)
    return _text([chapter_of(section) for section in sections], records)


def _text(chapters: list[Any], records: Path) -> str:
    template = templates_for(markdown=True).get_template(f"{PAGE}.j2")
    content = {"chapters": chapters, "images": IMAGES.as_posix(), "earlier": _earlier(records)}
    return template.render(content).rstrip() + "\n"


def _earlier(records: Path) -> list[dict[str, Any]]:
    """Read what was measured before there were records."""
    path = records / EARLIER
    if not path.is_file():
        return []
    entries = read_object(path).get("entries")
    if not isinstance(entries, list):
        raise ValueError(f"{path}: entries must be a list, got {shown(entries)}")
    for entry in entries:
        for name in ("title", "date", "processor", "text"):
            if not isinstance(entry, dict) or not isinstance(entry.get(name), str):
                raise ValueError(f"{path}: an entry has no text {name}: {shown(entry)}")
        for name in ("commands", "now", "tables"):
            if not isinstance(entry.get(name), list):
                raise ValueError(f"{path}: {plain(entry['title'])} needs a list {name}")
        for table in entry["tables"]:
            widths = {len(row) for row in (table["columns"], *table["rows"])}
            if len(widths) != 1:
                raise ValueError(f"{path}: rows of {plain(entry['title'])} are of unequal length")
    return entries
