"""Check an archive from the declaration to the last value, and list every fault at once."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs import schema
from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.block import structure_issues
from skytrawl.catalogs.schema import Issue
from skytrawl.catalogs.shards import SlotFile
from skytrawl.catalogs.sky import N_CELLS, order_key, positions_of
from skytrawl.catalogs.versions import content_hash
from skytrawl.errors import ArchiveError, CorruptShardError

# Positions may come with a cell computed by another program; half a cell of order 29 is 0.2 milliarcseconds.
_CELL_TOLERANCE = 1e-6


@dataclass
class Report:
    """What :func:`validate` found.

    Attributes
    ----------
    path : Path
        Folder of the archive.
    version : int
        Version that was checked.
    partitions, objects, observations : int
        How much was checked.
    issues : list of Issue
        Every fault; empty for a sound archive.
    """

    path: Path
    version: int
    partitions: int = 0
    objects: int = 0
    observations: int = 0
    issues: list[Issue] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether no fault was found."""
        return not self.issues

    def __str__(self) -> str:
        extent = f"{self.partitions} partitions, {self.objects} objects, {self.observations} observations"
        head = f"{self.path} version {self.version}: {extent}: "
        if self.ok:
            return head + "no fault"
        return "\n".join([head + f"{len(self.issues)} faults", *(f"  {issue}" for issue in self.issues)])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "path": str(self.path),
            "version": self.version,
            "partitions": self.partitions,
            "objects": self.objects,
            "observations": self.observations,
            "ok": self.ok,
            "issues": [vars(issue) for issue in self.issues],
        }


def validate(
    path: str | Path,
    *,
    version: int | None = None,
    deep: bool = False,
    partitions: Iterable[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Check an archive and list every fault.

    Reads every value once: declaration, partition table, shards (present, complete, checksums), offsets,
    order of rows and objects, times, band codes, HEALPix cells against positions.

    Parameters
    ----------
    path : str or Path
        Folder of the archive.
    version : int, optional
        Version to check; the latest by default.
    deep : bool
        Also compare the content hash of each partition and look for identifiers that occur twice.
    partitions : iterable of int, optional
        Check these alone.
    progress : callable, optional
        Called with partitions done and partitions in all.

    Returns
    -------
    Report
        ``report.ok`` and ``report.issues``.

    Raises
    ------
    NotAnArchiveError
        If there is no archive to check.
    """
    archive = Archive.open(path, version)
    report = Report(archive.path, archive.version.number)
    report.issues += _declaration(archive)
    report.issues += _table(archive)
    arrays: dict[str, SlotFile] = {}
    for name in archive.variables:
        try:
            arrays[name] = archive.array(name)
        except (ArchiveError, FileNotFoundError) as error:
            report.issues.append(Issue(name, f"the array cannot be opened: {error}"))
    numbers = list(range(archive.n_partitions) if partitions is None else partitions)
    seen: list[np.ndarray] = []
    for done, number in enumerate(numbers, 1):
        record = archive.version.partitions[number]
        columns = dict(_columns(arrays, record, number, report.issues))
        report.issues += _values(archive, record, number, columns)
        if deep and len(columns) == len(archive.variables):
            found, expected = content_hash(columns), record["content"].decode()
            if found != expected:
                message = "the values are not the ones that were published"
                report.issues.append(Issue(f"partition {number}", message, found, expected))
        if deep and "objects/object_id" in columns:
            seen.append(columns["objects/object_id"])
        report.partitions += 1
        report.objects += int(record["n_objects"])
        report.observations += int(record["n_observations"])
        if progress is not None:
            progress(done, len(numbers))
    if seen:
        report.issues += _duplicates(np.concatenate(seen))
    return report


def _declaration(archive: Archive) -> list[Issue]:
    """Arrays against the schema and against the version's header."""
    issues = []
    attrs = archive.attrs
    declared = archive.version.header.get("variables", {})
    dtypes: dict[str, np.dtype] = {}
    slots = {"object": attrs["object_slot"], "observation": attrs["observation_slot"]}
    for name in archive.variables:
        try:
            array = archive.array(name)
        except (ArchiveError, FileNotFoundError):
            dtypes[name] = np.dtype(declared.get(name, schema.VARIABLES[name].dtype))
            continue  # reported once, where the arrays are opened
        dtypes[name] = array.dtype
        variable = schema.VARIABLES[name]
        if array.dims != variable.dims:
            issues.append(Issue(f"{name}/dims", "wrong dimensions", str(array.dims), str(variable.dims)))
        if declared.get(name) != array.dtype.str:
            found, wanted = array.dtype.str, str(declared.get(name))
            issues.append(
                Issue(f"{name}/dtype", "not the dtype that the version was written with", found, wanted)
            )
        if array.layout.slot != slots[variable.dims[0]]:
            found, wanted = str(array.layout.slot), str(slots[variable.dims[0]])
            issues.append(Issue(f"{name}/chunk_grid", "slot differs from that of the archive", found, wanted))
        expected = schema.attributes(name, attrs["light_curves"])
        for key in ("units", "long_name"):
            if array.attrs.get(key) != expected[key]:
                found = repr(array.attrs.get(key))
                issues.append(Issue(f"{name}/{key}", "wrong attribute", found, repr(expected[key])))
    return issues + schema.check(dtypes, attrs["light_curves"], archive.bands)


def _table(archive: Archive) -> list[Issue]:
    """The partition table: enough slots, no slot twice, ranges in order."""
    issues = []
    table = archive.version.partitions
    for axis, slot, count in (
        ("object", archive.attrs["object_slot"], table["n_objects"]),
        ("observation", archive.attrs["observation_slot"], table["n_observations"]),
    ):
        first, slots = table[f"{axis}_slot"], table[f"{axis}_slots"]
        wrong = (count < 0) | (first < 0) | (slots < np.maximum(1, -(-count // slot)))
        issues += [
            Issue(
                f"partition {number}",
                f"{axis} slots do not hold its rows",
                f"{slots[number]} for {count[number]}",
            )
            for number in np.flatnonzero(wrong)
        ]
        order = np.argsort(first, kind="stable")
        shared = np.flatnonzero(first[order][1:] < (first + slots)[order][:-1])
        issues += [
            Issue(f"partition {order[row + 1]}", f"shares {axis} slots with partition {order[row]}")
            for row in shared
        ]
    issues += [
        Issue(f"partition {number}", "its HEALPix range is reversed")
        for number in np.flatnonzero(table["healpix_min"] > table["healpix_max"])
    ]
    return issues


def _columns(
    arrays: dict[str, SlotFile], record: np.void, number: int, issues: list[Issue]
) -> Iterator[tuple[str, np.ndarray]]:
    """Columns that can be read; an issue for every shard that cannot."""
    for name, array in arrays.items():
        axis = "object" if name.startswith("objects/") else "observation"
        rows, slot = int(record[f"n_{axis}s"]), int(record[f"{axis}_slot"])
        try:
            values = array.read(slot, 0, rows, partition=number)
        except CorruptShardError:
            issues += _damaged(array, slot, rows, number)
        else:
            yield name, values


def _damaged(array: SlotFile, slot: int, rows: int, number: int) -> Iterator[Issue]:
    """One issue for each unreadable shard of a column; the error of a whole read names the first alone."""
    for begin in range(0, rows, array.layout.slot):
        own = slot + begin // array.layout.slot
        try:
            array.read(own, 0, min(array.layout.slot, rows - begin), partition=number)
        except CorruptShardError as error:
            where = f"{array.name}, partition {number}, slot {own}"
            yield Issue(where, f"{error.__cause__} ({array.storage.path(array.key(own))})")


def _values(archive: Archive, record: np.void, number: int, columns: dict[str, np.ndarray]) -> list[Issue]:
    """Offsets, order, times, bands and positions of one partition, as far as its columns could be read."""
    issues: list[Issue] = []
    where = f"partition {number}"
    first = columns.get("objects/first_observation")
    healpix = columns.get("objects/healpix")
    if first is not None:
        offsets = np.append(first, record["n_observations"])
        rows = {
            short: columns[f"lightcurves/{short}"]
            for short in ("time", "band")
            if f"lightcurves/{short}" in columns
        }
        if not len(first):
            offsets = np.zeros(1, np.int64)
        issues += structure_issues(
            offsets, int(record["n_observations"]), healpix, rows, len(archive.bands), where
        )
        counts = columns.get("objects/n_observations")
        if counts is not None and not np.array_equal(counts, np.diff(offsets)):
            row = int(np.argmax(counts != np.diff(offsets)))
            found, wanted = str(counts[row]), str(np.diff(offsets)[row])
            issues.append(
                Issue(f"objects/n_observations, {where}", f"wrong count of object {row}", found, wanted)
            )
    if healpix is not None and len(healpix):
        found_range = f"{healpix.min()} to {healpix.max()}"
        listed = f"{record['healpix_min']} to {record['healpix_max']}"
        if found_range != listed:
            issues.append(
                Issue(f"objects/healpix, {where}", "range differs from the version's", found_range, listed)
            )
        issues += _cells(archive, columns, healpix, where)
    return issues


def _cells(archive: Archive, columns: dict[str, np.ndarray], healpix: np.ndarray, where: str) -> list[Issue]:
    """HEALPix cells against positions, and against the hash of the identifiers where there are none."""
    names = ("objects/ra", "objects/dec", "objects/object_id")
    if any(name not in columns for name in names):
        return []
    ra, dec, object_id = (columns[name] for name in names)
    path = f"objects/healpix, {where}"
    try:
        differs = np.flatnonzero(order_key(ra, dec, object_id) != healpix)
    except ValueError as error:
        return [Issue(f"objects/ra, {where}", str(error))]
    issues = []
    if not archive.has_positions and not np.isnan(ra).all():
        issues.append(Issue(f"objects/ra, {where}", "positions in an archive that declares none"))
    unplaced = differs[np.isnan(ra[differs])]
    if unplaced.size:
        message = (
            f"{unplaced.size} keys are not the hash of the identifier, the first is object {unplaced[0]}"
        )
        issues.append(Issue(path, message))
    differs = differs[~np.isnan(ra[differs])]
    if (beyond := differs[healpix[differs] >= N_CELLS]).size:
        issues.append(Issue(path, f"the cell of object {beyond[0]} is beyond the last one of order 29"))
    differs = differs[healpix[differs] < N_CELLS]
    centre_ra, centre_dec = positions_of(healpix[differs])
    across = ((centre_ra - ra[differs] + 180) % 360 - 180) * np.cos(np.radians(dec[differs]))
    far = differs[np.hypot(across, centre_dec - dec[differs]) > _CELL_TOLERANCE]
    if far.size:
        message = f"{far.size} cells are not at the position of their object, the first is object {far[0]}"
        issues.append(Issue(path, message))
    return issues


def _duplicates(object_id: np.ndarray) -> list[Issue]:
    values, counts = np.unique(object_id, return_counts=True)
    twice = values[counts > 1]
    if not twice.size:
        return []
    return [
        Issue("objects/object_id", f"{twice.size} identifiers occur more than once, such as {twice[0]!s}")
    ]
