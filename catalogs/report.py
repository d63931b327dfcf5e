"""What an ingest did: rows read, kept and dropped by reason, guessed columns, warnings."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from skytrawl.errors import IngestError


@dataclass(frozen=True)
class IngestReport:
    """Account of an ingest; every row read is kept or counted under the reason for dropping it.

    Attributes
    ----------
    archive : str
        Path of the archive.
    survey : str
        Name of the survey description.
    sources : tuple of str
        Files, in the order of reading.
    rows_read, rows_kept : int
    dropped : dict of str to int
        Rows by reason.
    examples : dict of str to list of str
        First places (file, row, what stood there) by reason.
    objects, partitions : int
        In the archive.
    new_objects, written : int
        Objects that the archive did not hold before; partitions written.
    bands : tuple of str
        Of the archive, by code.
    rows_by_band : dict of str to int
        Rows kept.
    upper_limits : int
        Rows kept that are limits.
    equal_stamps : int
        Rows kept that share object, band and time with an earlier one of another value.
    lost_objects : int
        Objects of which no row was kept.
    quarantined : dict of str to str
        Sources that were left out as a whole, with the reason.
    guessed : dict of str to dict of str to str
        Source to role to column, for columns that nobody named.
    warnings : tuple of str
    version : int
        Of the archive that holds the rows.
    seconds : float
        Wall time.

    Raises
    ------
    IngestError
        If the counts do not add up.
    """

    archive: str
    survey: str
    sources: tuple[str, ...]
    rows_read: int
    rows_kept: int
    dropped: dict[str, int]
    examples: dict[str, list[str]]
    objects: int
    partitions: int
    bands: tuple[str, ...]
    rows_by_band: dict[str, int]
    upper_limits: int = 0
    equal_stamps: int = 0
    new_objects: int = 0
    written: int = 0
    lost_objects: int = 0
    quarantined: dict[str, str] = field(default_factory=dict)
    guessed: dict[str, dict[str, str]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    version: int = 1
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.rows_read != self.rows_kept + self.rows_dropped:
            raise IngestError(
                f"{self.rows_read} rows read, but {self.rows_kept} kept and {self.rows_dropped} dropped: "
                "this is a "
                "fault of skytrawl, please report it with the input"
            )

    @property
    def rows_dropped(self) -> int:
        """Rows that are not in the archive, all reasons together."""
        return sum(self.dropped.values())

    def to_dict(self) -> dict[str, Any]:
        """All fields in JSON types."""
        return asdict(self) | {"rows_dropped": self.rows_dropped}

    def to_json(self) -> str:
        """All fields as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    def __str__(self) -> str:
        bands = ", ".join(f"{name} {count}" for name, count in self.rows_by_band.items())
        lines = [
            f"{self.archive}, version {self.version}: {self.objects} objects ({self.new_objects} new), "
            f"{self.rows_kept} observations added ({bands}), {self.partitions} partitions "
            f"({self.written} written)",
            f"{self.rows_read} rows read, {self.rows_kept} kept, {self.rows_dropped} dropped",
        ]
        for reason, count in sorted(self.dropped.items(), key=lambda item: -item[1]):
            lines.append(f"  {count} dropped: {reason}")
            lines += [f"    {place}" for place in self.examples.get(reason, ())]
        # Files of one kind are guessed alike: each set of guesses is said once.
        for columns in dict.fromkeys(tuple(sorted(found.items())) for found in self.guessed.values()):
            lines.append("columns: " + ", ".join(f"{role} from {name}" for role, name in columns))
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)
