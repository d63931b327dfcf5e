"""The parts of a report on images: facts and tables, as text, JSON, and Markdown with figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# Name of a file and what draws it.
Drawing = tuple[str, Callable[[Path], Any]]


@dataclass(frozen=True)
class ReportTable:
    """Columns of equal length; names hold the units.

    Attributes
    ----------
    title : str
    columns : dict of list
    """

    title: str
    columns: dict[str, list[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))


@dataclass(frozen=True)
class QualityReport:
    """What is known of the frames of a store.

    Attributes
    ----------
    path : str
    kind : str
        Of the frames.
    version : int
    facts : dict
        Name to value.
    tables : list of ReportTable
    drawings : list of (str, callable)
        Names of figures, and what draws them into a path.
    """

    path: str
    kind: str
    version: int
    facts: dict[str, Any]
    tables: list[ReportTable]
    drawings: list[Drawing] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Kind, path and version."""
        return f"{self.kind} of {self.path}, version {self.version}"

    def table(self, title: str) -> dict[str, list[Any]]:
        """Columns of the table whose title begins so; KeyError without one."""
        for table in self.tables:
            if table.title.startswith(title):
                return table.columns
        raise KeyError(title)

    def to_dict(self) -> dict[str, Any]:
        """All facts and tables in JSON types."""
        from skytrawl.console import plain_json

        values = {"path": self.path, "kind": self.kind, "version": self.version, "facts": self.facts}
        found: dict[str, Any] = plain_json({**values, "tables": {t.title: t.columns for t in self.tables}})
        return found

    def show(self) -> None:
        """Print facts and tables."""
        import click

        from skytrawl.console import show_columns, show_facts

        show_facts(self.title, {name: text(value) for name, value in self.facts.items()})
        for table in self.tables:
            if len(table):
                click.echo()
                show_columns(table.title, {name: _cells(values) for name, values in table.columns.items()})

    def markdown(self, figures: Sequence[str] = ()) -> str:
        """The report as Markdown.

        Parameters
        ----------
        figures : sequence of str
            Paths of pictures, relative to where it will lie.
        """
        lines = [f"# {self.title}", ""]
        lines += [f"- {name}: {text(value)}" for name, value in self.facts.items()]
        for table in self.tables:
            if not len(table):
                continue
            cells = [_cells(values).tolist() for values in table.columns.values()]
            right = [all(_is_number(v) for v in values) for values in table.columns.values()]
            lines += [
                "",
                f"## {table.title}",
                "",
                _row(table.columns),
                _row("--:" if r else "---" for r in right),
            ]
            lines += [_row(cell.strip() for cell in row) for row in zip(*cells, strict=True)]
        if figures:
            lines += ["", "## Figures", ""]
            lines += [f"![{Path(name).stem.replace('_', ' ')}]({name})\n" for name in figures]
        return "\n".join(lines).rstrip() + "\n"

    def write(self, folder: str | Path) -> Path:
        """Write report.md, report.json and the figures; returns the path of the first.

        Parameters
        ----------
        folder : path
            Made if it is not there; files of the same names are replaced.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw in self.drawings:
            draw(folder / name)
        (folder / "report.json").write_text(json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")
        path = folder / "report.md"
        path.write_text(self.markdown([name for name, _ in self.drawings]))
        return path


def text(value: Any) -> str:
    """A value as a reader wants it: four digits, a dash where nothing is known."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return "-"
    if isinstance(value, float):
        size = abs(value)
        if value.is_integer() and size < 1e15:
            return str(int(value))
        if size == 0 or 1e-3 <= size < 1e5:
            return f"{value:.4f}" if size < 100 else f"{value:.2f}"
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {text(item)}" for name, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value)) or "-"
    return str(value)


def _cells(values: Sequence[Any]) -> np.ndarray:
    """Texts of a column, numbers to the right."""
    texts = [text(value) for value in values]
    if all(_is_number(value) for value in values):
        width = max(map(len, texts), default=0)
        texts = [each.rjust(width) for each in texts]
    return np.array(texts, np.str_)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _row(cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
