"""Long tables of simulated light curves, written row group by row group."""

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from skytrawl.catalogs.block import Block
from skytrawl.catalogs.simulate_chunks import Simulation
from skytrawl.errors import BackendUnavailableError

TABLES = ("parquet", "csv")
_ROW_GROUP = 1_000_000


def require_pyarrow(what: str) -> None:
    """Say what to do if pyarrow, which reads and writes tables, is missing.

    Raises
    ------
    BackendUnavailableError
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise BackendUnavailableError(
            f"{what} needs pyarrow, which is not installed: pip install 'skytrawl[hats]'"
        ) from error


def rows_of(block: Block) -> dict[str, np.ndarray]:
    """The observations of a block with the identifier and position of their object in every row.

    Returns
    -------
    dict of arrays of shape (n_observations,)
        object, ra, dec, time, value, error, band (code).
    """
    counts = np.diff(block.offsets)
    names = {"object": "object_id", "ra": "ra", "dec": "dec"}
    rows = {role: np.repeat(block.objects[name], counts) for role, name in names.items()}
    return rows | {name: block.observations[name] for name in ("time", "value", "error", "band")}


class RowWriter:
    """Writes blocks as rows of a Parquet or CSV file, which takes its name only if all went well.

    Parameters
    ----------
    path : Path
    format : {"parquet", "csv"}
    simulation : Simulation
        Tells bands and units.
    """

    def __init__(self, path: Path, format: str, simulation: Simulation) -> None:
        import pyarrow

        self._arrow = pyarrow
        survey = simulation.survey
        self._names = ["object_id", "ra", "dec", "mjd"]
        self._names += ["mag", "magerr"] if simulation.magnitudes else ["flux", "flux_err"]
        self._bands = pyarrow.array(simulation.bands)
        types = [pyarrow.uint64(), *[pyarrow.float64()] * 3, *[pyarrow.float32()] * 2]
        units = ["", "deg", "deg", "d", survey.units, survey.units]
        fields = [
            pyarrow.field(name, kind, metadata={"unit": unit} if unit else None)
            for name, kind, unit in zip(self._names, types, units, strict=True)
        ]
        # CSV knows no dictionaries.
        coded = pyarrow.dictionary(pyarrow.int8(), pyarrow.string())
        self._schema = pyarrow.schema(
            [*fields, pyarrow.field("band", coded if format == "parquet" else pyarrow.string())]
        )
        self._format = format
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._held: list[Any] = []

    def __enter__(self) -> "RowWriter":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._format == "parquet":
            from pyarrow import parquet

            self._file: Any = parquet.ParquetWriter(self._partial, self._schema)
        else:
            from pyarrow import csv

            self._file = csv.CSVWriter(self._partial, self._schema)
        return self

    def write(self, block: Block) -> None:
        """Append the observations of a block."""
        rows = rows_of(block)
        codes = self._arrow.array(rows.pop("band").astype(np.int8))
        bands = self._arrow.DictionaryArray.from_arrays(codes, self._bands)
        if self._format == "csv":
            bands = bands.cast(self._arrow.string())
        arrays = [*map(self._arrow.array, rows.values()), bands]
        self._held.append(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        if sum(table.num_rows for table in self._held) >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            self._file.write_table(self._arrow.concat_tables(self._held))
            self._held = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
            self._file.close()
            if kind is None:
                self._partial.replace(self._path)
        finally:
            self._partial.unlink(missing_ok=True)
