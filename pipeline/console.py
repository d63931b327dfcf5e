"""What a terminal shows: progress bars, tables, and errors in one form."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rich.console import Console

    from skytrawl.runner import Progress


def console(*, stderr: bool = False) -> Console:
    """A rich console; plain text when the output is no terminal, wide enough for a table row."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else 140)


def say(text: str) -> None:
    """One line to standard error, so that standard output stays clean for data."""
    console(stderr=True).print(text, markup=False)


def cell(value: Any) -> str:
    """One value as a table shows it: 4 significant decimals, bytes as text, NaN as a dash."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (float, np.floating)):
        if np.isnan(value):
            return "-"
        size = abs(float(value))
        return f"{value:.5f}" if 1e-3 <= size < 1e5 or size == 0 else f"{value:.4g}"
    if isinstance(value, np.ndarray):
        return " ".join(cell(item) for item in value.ravel()[:8]) + (" …" if value.size > 8 else "")
    return str(value)


def column_cells(name: str, values: np.ndarray) -> list[str]:
    """The cells of one column: fixed decimals, five for positions, unless numbers need an exponent."""
    values = np.asarray(values)
    if values.dtype.kind == "f" and values.ndim == 1:
        sizes = np.abs(values[np.isfinite(values) & (values != 0)])
        if not len(sizes) or (sizes.max() < 1e7 and sizes.min() >= 1e-3):
            decimals = 5 if name in ("ra", "dec", "separation") else 4
            return ["-" if np.isnan(value) else f"{value:.{decimals}f}" for value in values]
    return [cell(value) for value in values]


def show_columns(title: str, columns: Mapping[str, np.ndarray], *, fit: bool = False) -> list[str]:
    """Print columns of equal length as a table, one row an object.

    Parameters
    ----------
    title : str
        Printed above.
    columns : mapping of str to array
        At least one.
    fit : bool
        Leave columns out from the right where the terminal is too narrow: a score or an id that is cut short
        tells nothing. Otherwise all are shown and their text is folded.

    Returns
    -------
    list of str
        Columns that were left out.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table

    screen = console()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    cells: list[list[str]] = []
    left_out: list[str] = []
    used = 0
    for name, values in columns.items():
        texts = column_cells(name, values)
        width = max(map(cell_len, texts), default=0)
        head = name.replace("_", "_\n", 1) if len(name) > width else name
        width = max(width, *(map(len, head.split("\n")))) + 2
        if fit and cells and (left_out or used + width - 2 > screen.width):
            left_out.append(name)
            continue
        used += width
        cells.append(texts)
        numeric = np.asarray(values).dtype.kind in "iufb"
        table.add_column(head, justify="right" if numeric else "left", no_wrap=fit, overflow="fold")
    for row in zip(*cells, strict=True):
        table.add_row(*row)
    screen.print(title, markup=False)  # a title of the table wraps at its width
    screen.print(table)
    return left_out


def show_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Print names and values as a two-column table."""
    from rich.table import Table

    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(str(name), str(value))
    screen = console()
    screen.print(title, markup=False)  # a title of the table wraps at its width
    screen.print(table)


def show_json(value: Any) -> None:
    """Print a value as JSON for machines; NaN becomes null, as JSON has no NaN."""
    sys.stdout.write(json.dumps(plain_json(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def plain_json(value: Any) -> Any:
    """The JSON form of arrays, bytes and NaN inside any nesting."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return [plain_json(item) for item in value.tolist()]
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in value]
    if isinstance(value, np.generic):
        return plain_json(value.item())
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def human_bytes(count: float) -> str:
    """A number of bytes with a decimal unit."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} PB"


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[Progress], None]]:
    """Show the progress of a run: partitions done, rate in observations a second, time left.

    Yields
    ------
    callable
        To be handed to `skytrawl.run` as `progress`.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    with Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("partitions · {task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("· left"),
        TimeRemainingColumn(),
        console=console(stderr=True),
        disable=not sys.stderr.isatty(),
    ) as bar:
        task = bar.add_task(label, total=None, rate="")

        def update(event: Progress) -> None:
            rate = event.observations / event.seconds if event.seconds > 0 else 0.0
            text = f"{rate:,.0f} observations/s" + (f" · {event.failed} failed" if event.failed else "")
            bar.update(task, total=event.total, completed=event.done, rate=text)

        yield update


@contextmanager
def step_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of counted steps; yields a callable of (done, total)."""
    with stage_bar({"": label}) as update:
        yield lambda done, total: update("", done, total)


@contextmanager
def stage_bar(labels: Mapping[str, str]) -> Iterator[Callable[[str, int, int], None]]:
    """Show the progress of named stages; yields a callable of (stage, done, total)."""
    from rich.progress import Progress as Bar

    with Bar(console=console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        tasks: dict[str, Any] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(labels.get(stage, stage), total=total)
            bar.update(tasks[stage], total=total, completed=done)

        yield update
