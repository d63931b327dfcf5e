"""The account of rows: read, dropped by reason, and what was noticed on the way."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skytrawl.catalogs.identifiers import alike

EXAMPLES = 3


@dataclass
class Tally:
    """Rows read and dropped, by reason, with the first places of each.

    Attributes
    ----------
    read : int
    dropped : dict of str to int
        Rows by reason.
    examples : dict of str to list of str
        First places (source, row, what stood there) by reason.
    notes : dict of str to int
        What is worth a warning but drops no row, with the rows that it concerns.
    spellings : dict of str to set of str
        Band of the survey to its names in the rows that were kept.
    rounded : dict of str to float
        Column to the largest change of a value by rounding.
    """

    read: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    spellings: dict[str, set[str]] = field(default_factory=dict)
    rounded: dict[str, float] = field(default_factory=dict)
    _losers: list[np.ndarray] = field(default_factory=list, repr=False)

    def drop(self, reason: str, count: int, examples: list[str]) -> None:
        """Count dropped rows; the first few places are kept."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count
        places = self.examples.setdefault(reason, [])
        places += examples[: EXAMPLES - len(places)]

    def note(self, text: str, count: int = 1) -> None:
        """Count something that is worth a warning but drops no row."""
        self.notes[text] = self.notes.get(text, 0) + count

    def lose(self, ids: np.ndarray) -> None:
        """Remember objects that lost rows."""
        if ids.size:
            self._losers.append(np.unique(ids))
            # Joined when the new ones outweigh the old ones: few joins, little more memory than the union.
            if sum(map(len, self._losers[1:])) > len(self._losers[0]):
                self._losers = [self.losers]

    @property
    def losers(self) -> np.ndarray:
        """Objects that may have lost all their rows: unique, ascending, as integers or as bytes."""
        if not self._losers:
            return np.zeros(0, np.uint64)
        return np.unique(np.concatenate(alike(self._losers)))

    def merge(self, other: "Tally") -> None:
        """Add the account of other rows."""
        self.read += other.read
        for reason, count in other.dropped.items():
            self.drop(reason, count, other.examples.get(reason, []))
        for text, count in other.notes.items():
            self.note(text, count)
        for band, names in other.spellings.items():
            self.spellings.setdefault(band, set()).update(names)
        for column, change in other.rounded.items():
            self.rounded[column] = max(change, self.rounded.get(column, 0.0))
        self.lose(other.losers)

    def to_dict(self) -> dict[str, Any]:
        """All of it in JSON types."""
        losers = self.losers
        return {
            "read": self.read,
            "dropped": dict(self.dropped),
            "examples": {reason: list(places) for reason, places in self.examples.items()},
            "notes": dict(self.notes),
            "spellings": {band: sorted(names) for band, names in self.spellings.items()},
            "rounded": dict(self.rounded),
            "losers": {"dtype": losers.dtype.str, "data": base64.b64encode(losers.tobytes()).decode()},
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Tally":
        """The account that :meth:`to_dict` describes."""
        losers = np.frombuffer(base64.b64decode(found["losers"]["data"]), found["losers"]["dtype"])
        return cls(
            found["read"],
            dict(found["dropped"]),
            {reason: list(places) for reason, places in found["examples"].items()},
            dict(found["notes"]),
            {band: set(names) for band, names in found["spellings"].items()},
            dict(found["rounded"]),
            [losers] if losers.size else [],
        )
