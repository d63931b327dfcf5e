"""Columns of the table of a store of frames, and the tables of a report that are made of them."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.image_report_parts import ReportTable

if TYPE_CHECKING:
    from skytrawl.catalogs.images.store import FrameStore


def column(store: FrameStore, name: str) -> np.ndarray:
    """A column of numbers as float64, NaN throughout where the table has none."""
    values = store.table.get(name)
    if values is None or values.dtype.kind == "S":
        return np.full(len(store), np.nan)
    return values.astype(np.float64)


def words(store: FrameStore, name: str) -> list[str]:
    """A column of texts, empty throughout where the table has none."""
    values = store.table.get(name)
    if values is None or values.dtype.kind != "S":
        return [""] * len(store)
    return [value.decode() for value in values.tolist()]


def ranges(title: str, measures: dict[str, np.ndarray]) -> ReportTable:
    """Least, median and largest of measures that any frame has."""
    names = ("measure", "frames", "least", "5 %", "median", "95 %", "largest")
    found: dict[str, list[Any]] = {name: [] for name in names}
    for name, values in measures.items():
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        numbers = [len(values), *map(float, np.quantile(values, (0, 0.05, 0.5, 0.95, 1)))]
        for key, value in zip(found, [name, *numbers], strict=True):
            found[key].append(value)
    return ReportTable(title, found)


def verdicts(store: FrameStore) -> tuple[dict[str, int], ReportTable]:
    """How many frames have each verdict, and the reasons by how often they are given."""
    counts = Counter(words(store, "verdict"))
    reasons: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str], tuple[str, str]] = {}
    for name, word, reason in zip(store.ids, words(store, "verdict"), words(store, "reason"), strict=True):
        for part in filter(None, reason.split("; ")):
            key = word, _kind(part, name)
            reasons[key] += 1
            example.setdefault(key, (name, part))
    order = sorted(reasons, key=lambda key: (-reasons[key], key))
    table = ReportTable(
        "Reasons",
        {
            "verdict": [word for word, _ in order],
            "frames": [reasons[key] for key in order],
            "reason (of the first)": [example[key][1] for key in order],
            "first frame": [example[key][0] for key in order],
        },
    )
    return {word: counts[word] for word in ("good", "poor", "refused") if counts[word]}, table


def _kind(reason: str, frame: str) -> str:
    """A reason without its numbers and names, so that equal ones can be counted."""
    return re.sub(r"[-+]?\d[\d.,]*", "#", reason.replace(frame, "#"))


def median(values: np.ndarray) -> float | None:
    """Of the finite values; None where there is none."""
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else None


def plain(value: Any, *, whole: bool = False) -> Any:
    """A cell: text as it is, numbers as Python's, None where nothing is known."""
    if isinstance(value, str):
        return value
    if not np.isfinite(value):
        return None
    return int(value) if whole else float(value)
