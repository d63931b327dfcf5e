"""Columns as tables for other programs: pandas, Astropy, Parquet, CSV, VOTable, the hits of soraisam2020."""

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from skytrawl.errors import BackendUnavailableError, ParameterError

if TYPE_CHECKING:
    from skytrawl.catalogs.runs import Run

Columns = Mapping[str, np.ndarray]

FORMATS = ("pandas", "astropy", "parquet", "csv", "ecsv", "votable")
FILE_FORMATS = ("parquet", "csv", "ecsv", "votable")
_SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".ecsv": "ecsv",
    ".vot": "votable",
    ".xml": "votable",
}
# Flat formats get one column per label of a short second axis; a map would make thousands.
_MOST_FLAT = 64


def flatten(columns: Columns, coords: Mapping[str, Sequence[Any]] | None = None) -> dict[str, np.ndarray]:
    """Columns of one number or text a row: text decoded, short second axes spread as ``name_label``.

    Parameters
    ----------
    columns : mapping of arrays
        All of the same first length.
    coords : mapping, optional
        Column -> labels of its second axis; numbers from 0 if absent.

    Raises
    ------
    ParameterError
        For a column with more than 64 values a row.
    """
    flat: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        if values.ndim == 1:
            flat[name] = text(values)
            continue
        width = int(np.prod(values.shape[1:], dtype=np.int64))
        if width > _MOST_FLAT:
            raise ParameterError(
                f"{name} has {width} values a row: leave it out by naming the columns, or choose a format "
                "with array columns (astropy, votable, parquet)"
            )
        labels = list((coords or {}).get(name, ())) if values.ndim == 2 else []
        labels = labels if len(labels) == width else list(range(width))
        wide = values.reshape(len(values), width)
        flat |= {f"{name}_{label}": text(wide[:, i]) for i, label in enumerate(labels)}
    return flat


def text(values: np.ndarray) -> np.ndarray:
    """Fixed-width bytes as str; other arrays unchanged."""
    return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values


def to_pandas(columns: Columns, coords: Mapping[str, Sequence[Any]] | None = None) -> Any:
    """A pandas.DataFrame; see `flatten` for columns with more than one axis."""
    import pandas

    return pandas.DataFrame(flatten(columns, coords))


def to_astropy(columns: Columns, units: Mapping[str, str] | None = None, meta: Any = None) -> Any:
    """An astropy.table.Table with units; array columns are kept.

    A unit that Astropy does not know is kept as it is written.
    """
    from astropy.table import Column, Table
    from astropy.units import Unit

    table = Table(meta=meta)
    for name, values in columns.items():
        unit = (units or {}).get(name) or None
        table[name] = Column(text(values), unit=None if unit is None else Unit(unit, parse_strict="silent"))
    return table


def write_table(
    columns: Columns | Iterable[Columns],
    path: str | Path,
    *,
    units: Mapping[str, str] | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
    format: str | None = None,
) -> None:
    """Write columns to a file, which is replaced.

    Parameters
    ----------
    columns : mapping of arrays, or iterable of such mappings
        Parquet and CSV are written piece by piece; the other formats hold everything in memory.
    path : str or Path
        "-" is standard output (CSV, ECSV).
    units : mapping, optional
        Unit of each column; kept by ECSV, VOTable and Parquet (as field metadata "unit").
    coords : mapping, optional
        Labels for CSV, see `flatten`.
    format : {"parquet", "csv", "ecsv", "votable"}, optional
        By the suffix of the path if left out (.parquet, .csv, .ecsv, .vot, .xml).

    Raises
    ------
    ParameterError
        For an unknown format or suffix.
    BackendUnavailableError
        If the package behind a format is not installed; names the remedy.
    """
    suffix = Path(path).suffix.lower()
    format = format or _SUFFIXES.get(suffix)
    if format not in FILE_FORMATS:
        wanted = ", ".join(_SUFFIXES)
        raise ParameterError(f"no table format for {str(path)!r}: use a name that ends in one of {wanted}")
    pieces: Iterable[Columns] = [columns] if isinstance(columns, Mapping) else columns
    if format == "csv":
        _write_csv(pieces, path, coords)
    elif format == "parquet":
        _write_parquet(pieces, path, units or {})
    else:
        _write_astropy(joined(pieces), path, units or {}, format)


def joined(pieces: Iterable[Columns]) -> dict[str, np.ndarray]:
    """One mapping from consecutive ones."""
    parts = list(pieces)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def write_flagged_csv(
    columns: Columns | Iterable[Columns],
    path: str | Path,
    *,
    run: "Run",
    topic: str | None = None,
    by: str | None = None,
) -> int:
    """Write the list of hits as soraisam2020 does: ``object id, topic, score``, three columns, no header.

    Parameters
    ----------
    columns : mapping of arrays, or iterable of such mappings
        Flagged rows, as `Query.flagged` gives them.
    path : str or Path
        File, replaced; "-" is standard output.
    run : Run
        Where the rows come from.
    topic : str, optional
        Second column; the name of the survey if left out.
    by : str, optional
        Score of the third column; the only ranked score, or the one named "score", if left out.

    Returns
    -------
    int
        Number of rows.
    """
    from skytrawl.catalogs.sidecars import main_score, ranked

    scores = list(ranked(run))
    score = by or main_score(scores, str(run.path))
    if score not in run.names:
        raise ParameterError(
            f"{run.path} has no column {score!r}; name the score: {', '.join(scores) or 'none'}"
        )
    word = topic if topic is not None else run.attrs.get("survey") or run.job
    pieces = [columns] if isinstance(columns, Mapping) else columns
    count = 0
    with _text_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        for piece in pieces:
            if score not in piece or "object_id" not in piece:
                raise ParameterError(f"the list of hits needs the columns object_id and {score}")
            count += len(piece[score])
            for name, value in zip(_words(piece["object_id"]), _words(piece[score]), strict=True):
                writer.writerow((name, word, value))
    return count


def _words(values: np.ndarray) -> list[Any]:
    """Values as they stand in a text file: shortest digits that read back to the same number."""
    if values.dtype.kind == "f":
        return values.astype("U32").tolist()
    return text(values).tolist()


def _write_csv(
    pieces: Iterable[Columns], path: str | Path, coords: Mapping[str, Sequence[Any]] | None
) -> None:
    with _text_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        for number, piece in enumerate(pieces):
            flat = flatten(piece, coords)
            if number == 0:
                writer.writerow(flat)
            writer.writerows(zip(*map(_words, flat.values()), strict=True))


def _write_parquet(pieces: Iterable[Columns], path: str | Path, units: Mapping[str, str]) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise BackendUnavailableError(
            "Parquet needs pyarrow, which is not installed: pip install 'skytrawl[hats]'"
        ) from error
    schema, writer = None, None
    with new_file(path) as temporary:
        try:
            for piece in pieces:
                arrays = [_arrow(pyarrow, values) for values in piece.values()]
                if schema is None:
                    notes = [{"unit": units[name]} if units.get(name) else None for name in piece]
                    fields = [
                        pyarrow.field(name, array.type, metadata=note)
                        for name, array, note in zip(piece, arrays, notes, strict=True)
                    ]
                    schema = pyarrow.schema(fields)
                    writer = parquet.ParquetWriter(temporary, schema)
                assert writer is not None
                writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise ParameterError(f"nothing to write to {path}: not even the names of columns")


def _arrow(pyarrow: Any, values: np.ndarray) -> Any:
    array = pyarrow.array(text(values).reshape(-1))
    for length in reversed(values.shape[1:]):
        array = pyarrow.FixedSizeListArray.from_arrays(array, length)
    return array


def _write_astropy(columns: Columns, path: str | Path, units: Mapping[str, str], format: str) -> None:
    if format == "votable":
        columns = {name: _for_votable(values) for name, values in columns.items()}
    table = to_astropy(columns, units)
    if str(path) == "-":
        table.write(sys.stdout, format="ascii.ecsv" if format == "ecsv" else format)
        return
    with new_file(path) as temporary:
        table.write(temporary, format="ascii.ecsv" if format == "ecsv" else format)


def _for_votable(values: np.ndarray) -> np.ndarray:
    """VOTable has no unsigned 64-bit (nor 32-bit) integers: as int64 where they fit, else as text."""
    if values.dtype.kind == "u" and values.dtype.itemsize > 2:
        fits = not values.size or values.max() <= np.iinfo(np.int64).max
        return values.astype(np.int64) if fits else values.astype("U20")
    return values.astype(np.int16) if values.dtype.kind in "iu" and values.dtype.itemsize == 1 else values


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """A path to write to; takes the name only if all went well."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.partial")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _text_file(path: str | Path) -> Iterator[TextIO]:
    if str(path) == "-":
        yield sys.stdout
        return
    with new_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        yield file
