"""Partitions of an archive or of a job's results as Arrow tables, for HATS and Parquet."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from skytrawl.catalogs import schema
from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.block import Block
from skytrawl.catalogs.export import flatten
from skytrawl.catalogs.runs import Run, unknown
from skytrawl.errors import BackendUnavailableError, ParameterError

_OBJECTS = ("object_id", "ra", "dec", "class")
# Columns of light curves by variable; value, error and time depend on the archive.
_NAMES = {"exposure": "exposure_id"}
_ORDER = ("time", "value", "error", "band", "sign", "upper_limit", "quality", "rb", "exposure")
SPATIAL_INDEX = "_healpix_29"

# Called with the stage ("count", "write"), what is done and what there is to do (partitions, pixels).
Progress = Callable[[str, int, int], None]


def pyarrow() -> Any:
    """The package, or BackendUnavailableError with the remedy."""
    try:
        import pyarrow
    except ImportError as error:
        raise BackendUnavailableError(
            "Parquet needs pyarrow, which is not installed: pip install 'skytrawl[hats]'"
        ) from error
    return pyarrow


class Exported(Protocol):
    """What an export reads: partitions of objects along the sky, each as Arrow tables.

    Attributes
    ----------
    name : str
        What a catalogue of it may be called.
    partitions : structured array
        Partition table; see :data:`skytrawl.catalogs.versions.PARTITION`.
    present : bool array of shape (n_partitions,)
        Partitions that hold values.
    has_positions : bool
    notes : dict of str to str
        What a reader must know about the values.
    """

    name: str
    partitions: np.ndarray
    present: np.ndarray
    has_positions: bool
    notes: dict[str, str]

    def objects(self, partition: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Identifiers, places on the HEALPix curve and number of rows of the objects of a partition."""
        ...

    def table(self, partition: int, objects: slice, integer: str) -> Any:
        """One row an object, with the column ``_healpix_29``; integer identifiers become this type.

        Returns
        -------
        pyarrow.Table
        """
        ...


class ArchiveTables:
    """Objects of an archive with nested light curves.

    Parameters
    ----------
    archive : Archive
    nested : str
        Name of the nested column.
    """

    def __init__(self, archive: Archive, nested: str = "lightcurve") -> None:
        self.archive = archive
        self.nested = nested
        self.name = archive.path.name.removesuffix(".zarr")
        self.partitions = archive.version.partitions
        self.present = np.ones(len(self.partitions), bool)
        self.has_positions = archive.has_positions
        curves: dict[str, Any] = archive.attrs["light_curves"]
        flux = curves["quantity"] == "flux"
        own = curves["time"].get("origin") == "own"
        self.names = {
            **_NAMES,
            "time": "time" if own else "mjd",
            "value": "flux" if flux else "mag",
            "error": "fluxerr" if flux else "magerr",
        }
        held = {name.rpartition("/")[2] for name in archive.variables}
        self.rows = [name for name in _ORDER if name in held]
        self.of_objects = [name for name in _OBJECTS if name in held]
        self.units = {
            self.names.get(name, name): str(schema.attributes(name, curves)["units"]) for name in self.rows
        }
        words = {key: value for key, value in curves.items() if key != "time"}
        words |= {f"time_{key}": value for key, value in curves["time"].items()}
        words["survey"] = archive.attrs.get("survey", {}).get("name")
        self.notes = {key: str(value) for key, value in words.items() if value not in (None, "")}

    def objects(self, partition: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :class:`Exported`."""
        block = self.archive.read(partition, ("objects/object_id", "objects/healpix"))
        return block.objects["object_id"], block.objects["healpix"], np.diff(block.offsets)

    def table(self, partition: int, objects: slice, integer: str) -> Any:
        """See :class:`Exported`; float32 stays float32."""
        arrow = pyarrow()
        block = self._read(partition, objects)
        offsets = arrow.array(block.offsets.astype(np.int32))
        rows = {
            name: arrow.ListArray.from_arrays(offsets, values)
            for name, values in self._observations(block).items()
        }
        columns = _objects(block, integer)
        columns[self.nested] = arrow.StructArray.from_arrays(
            list(rows.values()), fields=list(_table(rows, self.units).schema)
        )
        columns[SPATIAL_INDEX] = arrow.array(block.objects["healpix"].view(np.int64))
        return _table(columns, self.units)

    def long_tables(self, rows: int, progress: Progress | None = None) -> Iterator[Any]:
        """Tables of about so many rows with one row an observation; objects without observations have none.

        Yields
        ------
        pyarrow.Table
        """
        arrow = pyarrow()
        integer = "int64"
        for partition in filled(self):
            integer = identifier_type(self.objects(partition)[0], integer)
        for partition in filled(self, progress):
            _, _, counts = self.objects(partition)
            for piece in cut(counts, rows):
                block = self._read(partition, piece)
                owner = arrow.array(np.repeat(np.arange(block.n_objects), np.diff(block.offsets)))
                columns = {name: values.take(owner) for name, values in _objects(block, integer).items()}
                columns |= self._observations(block)
                yield _table(columns, self.units)

    def _read(self, partition: int, objects: slice) -> Block:
        names = [f"objects/{name}" for name in (*self.of_objects, "healpix")]
        return self.archive.read(partition, [*names, *(f"lightcurves/{name}" for name in self.rows)], objects)

    def _observations(self, block: Block) -> dict[str, Any]:
        arrow = pyarrow()
        found = {}
        for name in self.rows:
            column = arrow.array(block.observations[name])
            if name == "band":
                column = arrow.DictionaryArray.from_arrays(column, arrow.array(list(self.archive.bands)))
            found[self.names.get(name, name)] = column
        return found


class RunTables:
    """Objects with the results of a job.

    Parameters
    ----------
    run : Run
    columns : sequence of str, optional
        Columns beside the identity; all of the job by default. A column with up to 64 values an object
        becomes one column for each.

    Raises
    ------
    ParameterError
        If the run has no such column.
    """

    def __init__(self, run: Run, columns: Sequence[str] | None = None) -> None:
        self.run = run
        self.name = run.job
        for name in columns or ():
            if name not in run.names:
                raise ParameterError(unknown("column", name, run.names))
        wanted = run.outputs if columns is None else [name for name in columns if name not in run.identity]
        self.columns = [name for name in (*run.identity, *wanted) if name != "healpix"]
        self.partitions = run.partitions
        self.present = run.present()
        self.has_positions = run.has_positions
        self.labels = {}
        for name in self.columns:
            dims = run.column(name).dims
            if len(dims) == 2 and dims[1] in run.coords:
                self.labels[name] = run.coords[dims[1]]
        words = {"job": run.job, "fingerprint": run.fingerprint, "survey": run.attrs.get("survey")}
        self.notes = {key: str(value) for key, value in words.items() if value}

    def objects(self, partition: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :class:`Exported`."""
        found = self.run.read(partition, ("object_id", "healpix") if self.has_positions else ("object_id",))
        ids = found["object_id"]
        return ids, found.get("healpix", np.full(len(ids), 2**63, np.uint64)), np.ones(len(ids), np.int64)

    def table(self, partition: int, objects: slice, integer: str) -> Any:
        """See :class:`Exported`."""
        columns, units = self._columns(partition, [*self.columns, "healpix"], objects, integer)
        columns[SPATIAL_INDEX] = columns.pop("healpix").cast("int64")
        return _table(columns, units)

    def long_tables(self, rows: int, progress: Progress | None = None) -> Iterator[Any]:
        """Tables of about so many rows with one row an object, with or without positions.

        Yields
        ------
        pyarrow.Table
        """
        for partition in filled(self, progress):
            count = int(self.partitions["n_objects"][partition])
            for start in range(0, count, rows):
                piece = slice(start, min(start + rows, count))
                yield _table(*self._columns(partition, self.columns, piece, ""))

    def _columns(
        self, partition: int, names: Sequence[str], objects: slice, integer: str
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Columns of some objects, and their units."""
        found = self.run.read(partition, names, objects)
        columns: dict[str, Any] = {"object_id": identifiers(found.pop("object_id"), integer)}
        units: dict[str, str] = {}
        for name, values in found.items():
            for label, column in flatten({name: values}, self.labels).items():
                columns[label] = pyarrow().array(column)
                units[label] = str(self.run.column(name).attrs.get("units", ""))
        return columns, units


def filled(source: Exported, progress: Progress | None = None) -> Iterator[int]:
    """Numbers of the partitions with objects that are there."""
    numbers = np.flatnonzero(source.present & (source.partitions["n_objects"] > 0)).tolist()
    for done, number in enumerate(numbers):
        if progress:
            progress("write", done, len(numbers))
        yield number


def cut(counts: np.ndarray, rows: int) -> list[slice]:
    """Ranges of consecutive objects with about so many rows, at least one object each."""
    ends = np.cumsum(counts)
    found, start = [], 0
    while start < len(counts):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + rows, side="right")))
        found.append(slice(start, stop))
        start = stop
    return found


def identifier_type(ids: np.ndarray, before: str = "int64") -> str:
    """The type of integer identifiers: "int64", which other tables use too, or "uint64" if they do not fit.

    Parameters
    ----------
    ids : array of shape (n,)
        Of a partition.
    before : str
        What the partitions before need.
    """
    too_large = ids.dtype.kind == "u" and len(ids) and ids.max() > np.iinfo(np.int64).max
    return "uint64" if too_large else before


def identifiers(ids: np.ndarray, integer: str) -> Any:
    """An Arrow array of integers of this type, or of texts."""
    arrow = pyarrow()
    if ids.dtype.kind == "S":
        return arrow.array(ids).cast(arrow.string())
    return arrow.array(ids.astype(integer or ids.dtype, copy=False))


def _table(columns: dict[str, Any], units: dict[str, str]) -> Any:
    """A table whose fields state the units of columns."""
    arrow = pyarrow()
    fields = [
        arrow.field(name, values.type, metadata={"unit": units[name]} if units.get(name) else None)
        for name, values in columns.items()
    ]
    return arrow.Table.from_arrays(list(columns.values()), schema=arrow.schema(fields))


def _objects(block: Block, integer: str) -> dict[str, Any]:
    arrow = pyarrow()
    found = {"object_id": identifiers(block.objects["object_id"], integer)}
    found |= {name: arrow.array(block.objects[name]) for name in ("ra", "dec")}
    if "class" in block.objects:
        found["class"] = arrow.array(block.objects["class"]).cast(arrow.string())
    return found
