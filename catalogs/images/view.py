"""Stores of frames as xarray sees them: the table, and each frame lazily."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from skytrawl.catalogs.images.columns import COLUMNS
from skytrawl.catalogs.images.cone import frames_in_cone
from skytrawl.catalogs.images.current import open_frames
from skytrawl.catalogs.images.planes import Plane
from skytrawl.catalogs.images.quality_columns import COLUMNS as QUALITY
from skytrawl.catalogs.images.quantised import ATTR
from skytrawl.catalogs.images.store import FrameStore
from skytrawl.catalogs.images.table import OFFSETS, ragged_names, row_of, taken

_OF_INTEGERS = ("scale_factor", "add_offset", "_FillValue")


class PlaneArray(BackendArray):
    """A lazy array of a frame; indexing reads the chunks that it needs.

    Parameters
    ----------
    store : FrameStore
    frame_id, name : str
    content : str
        Hash of the frame that was opened.
    """

    def __init__(self, store: FrameStore, frame_id: str, name: str, content: str) -> None:
        self.store = store
        self.frame_id = frame_id
        self.name = name
        self.content = content
        self.plane: Plane = store.plane(frame_id, name)
        self.shape = self.plane.shape
        self.dtype = self.plane.dtype

    def __reduce__(self) -> tuple[Any, ...]:
        return PlaneArray, (self.store, self.frame_id, self.name, self.content)

    def __dask_tokenize__(self) -> tuple[str, ...]:
        return str(self.store.path), self.frame_id, self.name, self.content

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._basic
        )

    def _basic(self, key: tuple[Any, ...]) -> Any:
        window: list[slice] = []
        inside: list[Any] = []
        for part, size in zip(key, self.shape, strict=True):
            if not isinstance(part, slice):
                at = int(part) + (size if part < 0 else 0)
                window.append(slice(at, at + 1))
                inside.append(0)
                continue
            rows = range(size)[part]
            low, high = (min(rows[0], rows[-1]), max(rows[0], rows[-1]) + 1) if rows else (0, 0)
            window.append(slice(low, high))
            inside.append(slice(None) if rows.step > 0 and not rows else _inner(rows, low))
        return self.store.read_plane(self.frame_id, self.name, self.plane, tuple(window))[tuple(inside)]


def _inner(rows: range, low: int) -> slice:
    """The slice of a window from `low` on that takes these rows."""
    stop = rows[-1] - low + (1 if rows.step > 0 else -1)
    return slice(rows[0] - low, None if stop < 0 else stop, rows.step) if rows else slice(0, 0)


class Images:
    """A version of a store of frames, for looking at it with xarray.

    Attributes
    ----------
    store : FrameStore
    """

    def __init__(self, store: FrameStore) -> None:
        self.store = store

    def __repr__(self) -> str:
        columns = [name for name in self.store.table if not name.endswith(OFFSETS)]
        return (
            f"<Images {self.store.path} version {self.store.version}: {len(self)} {self.store.kind}\n"
            f" columns: {', '.join(columns)}>"
        )

    def __len__(self) -> int:
        return len(self.store)

    def __iter__(self) -> Iterator[str]:
        return iter(self.store.ids)

    def __contains__(self, frame_id: object) -> bool:
        return frame_id in self.store

    @property
    def table(self) -> xr.Dataset:
        """One row a frame on the dimension `frame`, whose index are the ids.

        A column of lists such as `cover` lies on a dimension of its own (``cover_item``); `row` gives the
        list of one frame.
        """
        return self._dataset(dict(self.store.table))

    def row(self, frame_id: str) -> dict[str, Any]:
        """One row of the table as plain values, lists as arrays.

        Raises
        ------
        ObjectNotFoundError
            If the version does not list the frame.
        """
        return row_of(self.store.table, self.store.row_number(frame_id))

    def frame(self, frame_id: str, *, chunks: Any = None) -> xr.Dataset:
        """One frame; pixels are read when they are used, and only the chunks that are.

        Parameters
        ----------
        frame_id : str
        chunks : None, {} or as in xarray
            None indexes lazily without Dask; {} makes Dask arrays of whole planes.

        Returns
        -------
        xarray.Dataset
            Planes on (y, x), quantised ones decoded; attributes of the frame, its row and its id.

        Raises
        ------
        ObjectNotFoundError
            If there is no such frame.
        CorruptShardError
            Naming frame, array and file, now or when pixels are read.
        """
        record = self.store.record(frame_id)
        variables: dict[str, xr.Variable] = {}
        for name in record["arrays"]:
            array = PlaneArray(self.store, frame_id, name, record["content"])
            attrs = {key: value for key, value in array.plane.attrs.items() if key not in _OF_INTEGERS}
            if ATTR in attrs:
                # As netCDF and most tools take them, attributes are flat.
                attrs |= {f"{ATTR}_{key}": value for key, value in attrs.pop(ATTR).items()}
            variables[name] = xr.Variable(array.plane.dims, indexing.LazilyIndexedArray(array), attrs)
        attrs = {**record["attrs"], "id": frame_id, "content": record["content"], "row": record["row"]}
        dataset = xr.Dataset(variables, attrs=attrs)
        return dataset if chunks is None else dataset.chunk(chunks)

    def cone(self, ra: float, dec: float, radius: float) -> xr.Dataset:
        """Rows of the frames that a cone touches, nearest centre first.

        Parameters
        ----------
        ra, dec, radius : float
            Degrees (ICRS). The rim belongs to the cone; a radius of 0 asks for the frames that hold a point.

        Returns
        -------
        xarray.Dataset
            As `table`, and `separation` of the centre in degrees. Frames whose corners the table lacks are
            taken by their centre alone.

        Raises
        ------
        NoPositionsError
            If the table has no ra and dec.
        ParameterError
            For a declination beyond the poles, a negative radius or a value that is not finite.
        """
        rows, distance = frames_in_cone(self.store.table, ra, dec, radius, str(self.store.path))
        found = self._dataset(taken(self.store.table, rows))
        note = {"units": "deg", "long_name": "distance of the centre of the frame from that of the cone"}
        return found.assign(separation=xr.Variable("frame", distance, note))

    def _dataset(self, table: dict[str, np.ndarray]) -> xr.Dataset:
        variables: dict[str, xr.Variable] = {}
        ragged = ragged_names(table)
        for name, column in table.items():
            dim = "frame"
            if name in ragged:
                dim = f"{name}_item"
            elif name.endswith(OFFSETS) and name[: -len(OFFSETS)] in ragged:
                dim = "frame_end"
            unit, meaning = COLUMNS.get(name) or QUALITY.get(name, ("", ""))
            attrs = {key: text for key, text in (("units", unit), ("long_name", meaning)) if text}
            values = np.char.decode(column, "utf-8") if column.dtype.kind == "S" else column
            variables["frame" if name == "id" else name] = xr.Variable(dim, values, attrs)
        whole: dict[str, Any] = {
            **self.store.attrs,
            "path": str(self.store.path),
            "kind": self.store.kind,
            "version": self.store.version,
        }
        return xr.Dataset(variables, attrs=whole)


def open_images(path: str | Path, version: int | None = None) -> Images:
    """Open what `ingest-images` or a job over images wrote.

    Parameters
    ----------
    path : str or Path
        Folder of the store, or of the results of a job.
    version : int, optional
        Version to pin; the latest by default.

    Returns
    -------
    Images
        Its table, its frames and cone searches, as xarray datasets.

    Raises
    ------
    NotAnArchiveError
        If the path holds no store of frames.
    """
    return Images(open_frames(path, version))
