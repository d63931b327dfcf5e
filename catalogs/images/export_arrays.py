"""Files of named arrays: HDF5, and NumPy's npz written piece by piece."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.images.export_tables import Table
from skytrawl.catalogs.images.frame import plain
from skytrawl.errors import BackendUnavailableError

_PIECE = 1 << 24  # bytes that go through the checksum of a zip at once


class Npz:
    """An ``.npz`` as `numpy.savez` writes it, of arrays that need not be in memory whole.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path, "x", zipfile.ZIP_STORED, allowZip64=True)

    def __enter__(self) -> Npz:
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()

    def add(self, name: str, values: np.ndarray) -> None:
        """One array."""
        self.stream(name, values.dtype, values.shape, [values])

    def stream(self, name: str, dtype: Any, shape: tuple[int, ...], parts: Iterable[np.ndarray]) -> None:
        """One array that comes in parts along its first axis."""
        dtype = np.dtype(dtype)
        head = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        # A fixed date: the same values give the same file.
        member = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
        with self._zip.open(member, "w", force_zip64=True) as file:
            np.lib.format.write_array_header_2_0(file, head)
            for part in parts:
                flat = np.ascontiguousarray(part, dtype).reshape(-1)
                step = max(1, _PIECE // max(1, dtype.itemsize))
                for start in range(0, len(flat), step):
                    file.write(flat[start : start + step].tobytes())


def require_h5py() -> Any:
    """The package, or BackendUnavailableError with the remedy."""
    try:
        import h5py
    except ImportError as error:
        raise BackendUnavailableError(
            "HDF5 needs h5py, which is not installed: pip install 'skytrawl[images]'"
        ) from error
    return h5py


def put(group: Any, name: str, values: np.ndarray, unit: str = "", meaning: str = "", **words: Any) -> Any:
    """A dataset with the attributes ``units`` and ``long_name``.

    Chunks carry checksums (Fletcher 32). Integers are compressed with deflate; noise would not shrink.
    """
    plenty = values.ndim > 0 and values.size >= 1024
    if plenty:
        words = {"fletcher32": True, **words}
        if values.dtype.kind in "iub":
            words = {"compression": "gzip", "compression_opts": 1, "shuffle": True, **words}
        words.setdefault("chunks", _chunks(values.shape))
    dataset = group.create_dataset(name, data=values, **words)
    describe(dataset, unit, meaning)
    return dataset


def describe(dataset: Any, unit: str, meaning: str) -> None:
    """Attributes ``units`` and ``long_name``."""
    dataset.attrs["units"] = unit
    if meaning:
        dataset.attrs["long_name"] = meaning


def put_table(group: Any, table: Table) -> None:
    """One dataset a column; lists as variable-length arrays, text as UTF-8."""
    h5py = require_h5py()
    for name in table.names():
        values = table.values(name)
        if isinstance(values, list):
            kind = h5py.vlen_dtype(table.columns[name].dtype)
            dataset = group.create_dataset(name, (len(values),), kind)
            for number, item in enumerate(values):
                dataset[number] = item
        elif values.dtype.kind == "U":
            dataset = group.create_dataset(name, data=values.astype(object), dtype=h5py.string_dtype())
        else:
            put(group, name, values, table.unit(name), table.about.get(name, ("", ""))[1])
            continue
        describe(dataset, table.unit(name), table.about.get(name, ("", ""))[1])


def put_attributes(group: Any, values: Mapping[str, Any]) -> None:
    """Attributes of a group: numbers and short texts as they are, what is nested or long as JSON text."""
    for name, value in plain(values).items():
        if value is None:
            continue
        text = value if isinstance(value, bool | int | float | str) else json.dumps(value)
        if isinstance(text, str) and len(text) > 4096:
            # An attribute of HDF5 has 64 kB at most in its header.
            group.create_dataset(f"_{name}", data=text)
        else:
            group.attrs[name] = text


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == 1:
        return (min(shape[0], 65_536),)
    lead = (1,) * (len(shape) - 2)
    return (*lead, *(max(1, min(side, 256)) for side in shape[-2:]))
