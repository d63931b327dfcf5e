"""One run of a job in a results store: its columns, the partitions that it covers, its ledger."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.ledger import Failures, Ledger
from skytrawl.catalogs.shards import SlotFile
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.versions import Version, from_bytes
from skytrawl.errors import NotAnArchiveError, ParameterError

FORMAT = 1
# Small chunks make single rows cheap; a wide row (a map) makes them smaller still.
INNER_ROWS = 8192
INNER_BYTES = 1 << 18


class Run:
    """One run of one job in a results store; small, picklable by its path.

    Parameters
    ----------
    path : str or Path
        Folder ``<store>/<job>/<fingerprint>``.
    version : Version, optional
        The archive version whose partition table counts; default the one that the run covers now. A writer
        is pinned to its own, because a later driver may let the run cover another.

    Raises
    ------
    NotAnArchiveError
        If the folder holds no run.
    """

    def __init__(self, path: str | Path, version: Version | None = None) -> None:
        self.path = Path(path).absolute()
        if version is not None:
            self.version = version
        self.storage = Storage(self.path)
        self.attrs: dict[str, Any] = group(self.storage, "", "run", self.path)

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return Run, (str(self.path),)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def job(self) -> str:
        """Name of the job."""
        return self.attrs["job"]

    @property
    def fingerprint(self) -> str:
        """Fingerprint of job, parameters, kernel version, inputs and backend."""
        return self.attrs["fingerprint"]

    @property
    def names(self) -> tuple[str, ...]:
        """All columns: identity first, then the outputs of the job."""
        return (*self.identity, *self.outputs)

    @property
    def identity(self) -> tuple[str, ...]:
        """Identity columns: object_id and, where the archive has them, ra, dec, healpix, class."""
        return tuple(self.attrs["identity"])

    @property
    def outputs(self) -> tuple[str, ...]:
        """Columns that the job gives."""
        return tuple(self.attrs["outputs"])

    @property
    def coords(self) -> dict[str, list[Any]]:
        """Labels along the dims other than object, such as the band and colour keys."""
        return self.attrs["coords"]

    @property
    def has_positions(self) -> bool:
        """Whether the objects have sky positions."""
        return "ra" in self.identity

    @cached_property
    def version(self) -> Version:
        """The archive version that the run covers (a copy of its partition table)."""
        return from_bytes(self.storage.read("version.npz"), str(self.path / "version.npz"))

    @property
    def partitions(self) -> np.ndarray:
        """Partition table of the covered version."""
        return self.version.partitions

    @cached_property
    def ledger(self) -> Ledger:
        """Which partitions are done."""
        return Ledger(self.storage, "ledger")

    @cached_property
    def failures(self) -> Failures:
        """Which partitions were given up, and why."""
        return Failures(self.storage, "failures")

    def present(self) -> np.ndarray:
        """bool[n_partitions]: partitions that the ledger says are done; reads the ledger."""
        return self.ledger.done(self.partitions)

    def column(self, name: str) -> SlotFile:
        """The array of a column.

        Raises
        ------
        ParameterError
            If the run has no such column; names the nearest.
        """
        found = self._columns.get(name)
        if found is None:
            if name not in self.names:
                raise ParameterError(unknown("column", name, self.names))
            found = self._columns[name] = SlotFile.open(self.storage, name)
        return found

    @cached_property
    def _columns(self) -> dict[str, SlotFile]:
        return {}

    def fill(self, name: str) -> Any:
        """What a row of an unfinished partition reads as: NaN, -1, the largest unsigned, "" or False."""
        column = self.column(name)
        return missing_value(column.dtype, column.attrs.get("missing"))

    def write(self, partition: int, arrays: Mapping[str, np.ndarray], *, flush: bool = True) -> str:
        """Write all columns of a partition, whole shards into its own slots.

        Each shard appears under its name at once or not at all. Nothing refers to it before the ledger does.

        Parameters
        ----------
        partition : int
            Number in the partition table of the covered version.
        arrays : dict of ndarray
            Every column of `names`, each with first axis n_objects of the partition.
        flush : bool
            Wait until the disk has the bytes.

        Returns
        -------
        str
            Hash of the decoded values, 64 hexadecimal digits.

        Raises
        ------
        ValueError
            For a missing or foreign column, or a wrong shape or dtype.
        """
        if set(arrays) != set(self.names):
            lack, extra = sorted(set(self.names) - set(arrays)), sorted(set(arrays) - set(self.names))
            raise ValueError(
                f"{self.job}, partition {partition}: columns missing {lack}, not declared {extra}"
            )
        row = self.partitions[partition]
        count, slot, slots = int(row["n_objects"]), int(row["object_slot"]), int(row["object_slots"])
        ready: dict[str, np.ndarray] = {}
        for name in self.names:
            column, values = self.column(name), np.asarray(arrays[name])
            if values.shape != (count, *column.tail) or not same_values(values.dtype, column.dtype):
                raise ValueError(
                    f"{self.job}/{name}, partition {partition}: got {values.dtype}{list(values.shape)} "
                    f"instead of {column.dtype}{[count, *column.tail]}"
                )
            ready[name] = np.ascontiguousarray(values, column.dtype)
        for name, values in ready.items():
            column = self.column(name)
            if count > slots * column.layout.slot:
                raise ValueError(f"{self.job}, partition {partition}: {count} objects overflow its slots")
            column.write(slot, values, flush=flush)
        return values_hash(ready)

    def read(
        self, partition: int, names: Sequence[str] | None = None, rows: slice | None = None
    ) -> dict[str, np.ndarray]:
        """Columns of one partition, or of a range of its objects; loads just these.

        A partition without ledger entry is not looked at here: see `present`.

        Raises
        ------
        CorruptShardError
            If a shard is missing, empty or damaged.
        """
        entry = self.partitions[partition]
        start, stop, _ = (rows or slice(None)).indices(int(entry["n_objects"]))
        slot = int(entry["object_slot"])
        return {
            name: self.column(name).read(slot, start, max(start, stop), partition=partition)
            for name in names or self.names
        }

    def verify(self, partition: int) -> str:
        """Hash of the decoded values as they are on disk, to be compared with the ledger's."""
        return values_hash(self.read(partition))


def values_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """Hash of decoded values by name, dtype, shape and bytes: 64 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=32)
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}\0{values.dtype.str}\0{values.shape}\0".encode())
        digest.update(values.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def missing_value(dtype: np.dtype, declared: Any = None) -> Any:
    """The value that marks a missing row of a type, unless the variable declares one."""
    if declared is not None:
        return np.array(declared).astype(dtype)[()]
    defaults: dict[str, Callable[[], Any]] = {
        "f": lambda: np.nan,
        "i": lambda: -1,
        "u": lambda: np.iinfo(dtype).max,
        "S": lambda: b"",
        "b": lambda: False,
    }
    return dtype.type(defaults[dtype.kind]())


def inner_rows(slot: int, row_bytes: int) -> int:
    """Rows of an inner chunk: the largest divisor of the slot within INNER_ROWS and INNER_BYTES."""
    limit = max(1, min(slot, INNER_ROWS, INNER_BYTES // max(row_bytes, 1)))
    return next(rows for rows in range(limit, 0, -1) if slot % rows == 0)


def group(storage: Storage, key: str, kind: str, path: Path) -> dict[str, Any]:
    """Attributes of a group of ours of this kind; NotAnArchiveError with the remedy for anything else."""
    what = "run of a results store" if kind == "run" else "skytrawl results store"
    try:
        attrs = json.loads(storage.read(f"{key}zarr.json"))["attributes"]["skytrawl"]
        found = attrs["kind"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        wrong = f"is not a {what} (no readable zarr.json of ours)" if path.exists() else "does not exist"
        raise NotAnArchiveError(
            f"{path} {wrong}. Give the folder that `skytrawl run` wrote, or, to write, a new path"
        ) from error
    if found != kind:
        raise NotAnArchiveError(
            f"{path} is a skytrawl {found}, not a {what}. Give the folder that `skytrawl run` wrote"
        )
    if attrs["format"] > FORMAT:
        raise NotAnArchiveError(
            f"{path} has format {attrs['format']}; this version reads {FORMAT}: upgrade skytrawl"
        )
    return attrs


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """Message for a name that is not known, with the nearest one."""
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"no {what} {name!r}{hint}; there are: {', '.join(known) or 'none'}"


def same_values(given: np.dtype, kept: np.dtype) -> bool:
    """Whether an array of one type can be kept as the other without changing a value."""
    if kept.kind == "S":
        return given.kind == "S" and given.itemsize <= kept.itemsize
    return given == kept
