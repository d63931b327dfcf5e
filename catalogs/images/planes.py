"""Arrays of any number of axes, each one file of checked chunks: ordinary sharded Zarr v3 arrays.

Read and written without Zarr for the reasons that ``catalogs/shards.py`` gives: every chunk is stored, and
one that is missing or damaged is an error.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.codecs import Coder, crc32c, fill_value, pipeline
from skytrawl.catalogs.images.frame import CHECK, checksum
from skytrawl.catalogs.images.quantised import Quantised, quantised_of
from skytrawl.catalogs.shards import (
    READ_AHEAD,
    check_entries,
    dtype_from_json,
    dtype_to_json,
    read_index,
    run_bytes,
    shard_buffer,
)
from skytrawl.catalogs.storage import Parts
from skytrawl.errors import CorruptShardError

_SIDE = 256  # longest side of a chunk of a plane
_CHUNK = 65_536  # values of a chunk, about

Window = tuple[slice, ...]


def chunk_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Shape of the chunks of an array: about 65,536 values, sides of the last two axes up to 256.

    Axes are cut into equal parts, so that little is padded: 900 pixels into four times 225.
    """
    left = _CHUNK
    chunks: list[int] = []
    for axis, size in enumerate(reversed(shape)):
        limit = min(left, _SIDE) if len(shape) > 1 and axis < 2 else left
        parts = max(1, -(-size // max(1, limit)))
        chunks.append(max(1, -(-size // parts)))
        left //= chunks[-1]
    return tuple(reversed(chunks))


@dataclass(frozen=True)
class Plane:
    """An array on disk.

    Attributes
    ----------
    folder : Path
        Folder of the array, which holds ``zarr.json`` and ``c/``.
    shape, chunks : tuple of int
        Lengths of the array and of its chunks.
    stored : numpy.dtype
        Type of the numbers on disk.
    dims : tuple of str
    codecs : tuple of dict
        Inner codecs as in ``zarr.json``.
    attrs : dict
    """

    folder: Path
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    stored: np.dtype
    dims: tuple[str, ...]
    codecs: tuple[dict[str, Any], ...]
    attrs: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def quantised(self) -> Quantised | None:
        """How integers stand for the values, if they do."""
        return quantised_of(self.attrs)

    @property
    def dtype(self) -> np.dtype:
        """Type of the values as read."""
        return self.stored if self.quantised is None else self.quantised.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the values as read."""
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """Chunks along each axis."""
        return tuple(-(-size // chunk) for size, chunk in zip(self.shape, self.chunks, strict=True))

    @property
    def file(self) -> Path:
        """The one file of all chunks; an empty array has none."""
        return self.folder / "/".join(["c", *["0"] * len(self.shape)])

    @classmethod
    def of(cls, folder: Path, values: np.ndarray, dims: Sequence[str], attrs: dict[str, Any]) -> "Plane":
        """The plane that `values` (as they go to the disk) make in a folder; nothing is written."""
        codecs = pipeline("quantised" if quantised_of(attrs) else "default", values.dtype)
        return cls(
            folder, values.shape, chunk_shape(values.shape), values.dtype, tuple(dims), tuple(codecs), attrs
        )

    @classmethod
    def open(cls, folder: Path) -> "Plane":
        """Open an array by its folder.

        Raises
        ------
        CorruptShardError
            If ``zarr.json`` is missing, damaged or not one that skytrawl wrote.
        """
        try:
            meta = json.loads((folder / "zarr.json").read_bytes())
            (sharding,) = meta["codecs"]
            settings = sharding["configuration"]
            codecs = tuple(settings["codecs"])
            Coder(codecs)
            dims = tuple(meta["dimension_names"])
            plane = cls(
                folder,
                tuple(meta["shape"]),
                tuple(settings["chunk_shape"]),
                dtype_from_json(meta["data_type"]),
                dims,
                codecs,
                {key: value for key, value in meta["attributes"].items() if key != CHECK},
            )
            # The checksum covers everything: a flipped digit of a length or of a step is found here.
            if len({len(plane.shape), len(plane.chunks), len(dims)}) != 1 or meta != plane.metadata():
                raise ValueError("it is altered, or not as skytrawl writes it")
            return plane
        except (OSError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise CorruptShardError(f"{folder / 'zarr.json'} does not describe an array: {error}") from error

    def encoded(self, values: np.ndarray) -> Iterator[bytes]:
        """The bytes of the file of `values`, piece by piece: chunks, index, checksum."""
        coder = Coder(self.codecs)
        index = np.empty((int(np.prod(self.grid)), 2), "<u8")
        position = 0
        for number, place in enumerate(itertools.product(*map(range, self.grid))):
            inside = _slices(place, self.chunks)
            chunk = values[inside]
            if chunk.shape != self.chunks:
                padded = np.full(self.chunks, fill_value(self.stored), self.stored)
                padded[tuple(slice(size) for size in chunk.shape)] = chunk
                chunk = padded
            pieces = coder.encode(np.ascontiguousarray(chunk))
            length = sum(map(len, pieces))
            index[number] = position, length
            position += length
            yield from pieces
        packed = index.tobytes()
        yield packed
        yield crc32c(packed).to_bytes(4, "little")

    def read(self, window: Window | None = None) -> np.ndarray:
        """Values inside a window, all by default; only the chunks that it touches are read.

        Parameters
        ----------
        window : tuple of slice, optional
            One for each axis, 0 <= start <= stop <= length, without step.

        Raises
        ------
        CorruptShardError
            If the file or a chunk is missing or fails its checksum; nothing is ever filled.
        """
        window = window or tuple(slice(0, size) for size in self.shape)
        out = np.empty([part.stop - part.start for part in window], self.dtype)
        if not out.size:
            return out
        ranges = [
            range(part.start // chunk, -(-part.stop // chunk))
            for part, chunk in zip(window, self.chunks, strict=True)
        ]
        places = list(itertools.product(*ranges))
        try:
            with Parts(str(self.file)) as shard:
                self._read(shard, places, window, out)
        except FileNotFoundError as error:
            raise CorruptShardError(f"{self.file} is missing") from error
        except (ValueError, RuntimeError) as error:
            raise CorruptShardError(f"{self.file}: {error}") from error
        return out

    def _read(self, shard: Parts, places: Sequence[tuple[int, ...]], window: Window, out: np.ndarray) -> None:
        count = int(np.prod(self.grid))
        index_bytes = 16 * count + 4
        if shard.size < index_bytes:
            raise ValueError(f"the file is truncated: {shard.size} bytes are less than its index")
        base = 0 if shard.size <= READ_AHEAD else shard.size - index_bytes
        data = shard_buffer(shard.size - base)
        shard.into(base, data)
        numbers = np.ravel_multi_index(tuple(np.array(places).T), self.grid)
        # A copy: the buffer is used again for the chunks.
        index = read_index(data[-index_bytes:], count, shard.size)[numbers]
        check_entries(index, 0, shard.size - index_bytes)
        entries = index.tolist()
        coder = Coder(self.codecs)
        scratch = np.empty(self.chunks, self.stored)
        for number, place in enumerate(places):
            offset, length = entries[number]
            if offset < base or offset + length > base + len(data):
                base, data = offset, shard_buffer(run_bytes(entries[number:]))
                shard.into(base, data)
            coder.decode(data[offset - base : offset - base + length], scratch)
            source, target, first = _overlap(place, self.chunks, window)
            if self.quantised is None:
                out[target] = scratch[source]
            else:
                self.quantised.decode(scratch, source, out, target, first, self.shape[1])

    def metadata(self) -> dict[str, Any]:
        """``zarr.json`` of the array, with a checksum of its own among the attributes."""
        fill = {"f": "NaN", "S": "", "b": False}.get(self.stored.kind, 0)
        shard = [max(1, parts) * chunk for parts, chunk in zip(self.grid, self.chunks, strict=True)]
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        meta = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": dtype_to_json(self.stored),
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": fill,
            "codecs": [
                {
                    "name": "sharding_indexed",
                    "configuration": {
                        "chunk_shape": list(self.chunks),
                        "codecs": list(self.codecs),
                        "index_codecs": [little, {"name": "crc32c"}],
                        "index_location": "end",
                    },
                }
            ],
            "attributes": self.attrs,
            "dimension_names": list(self.dims),
            "storage_transformers": [],
        }
        return {**meta, "attributes": {**self.attrs, CHECK: checksum(meta)}}


def _slices(place: Sequence[int], chunks: Sequence[int]) -> Window:
    return tuple(slice(at * size, (at + 1) * size) for at, size in zip(place, chunks, strict=True))


def _overlap(
    place: Sequence[int], chunks: Sequence[int], window: Window
) -> tuple[Window, Window, tuple[int, ...]]:
    """Where a chunk and a window meet: inside the chunk, inside the window, and the first place of it."""
    source, target, first = [], [], []
    for at, size, part in zip(place, chunks, window, strict=True):
        low, high = max(part.start, at * size), min(part.stop, (at + 1) * size)
        source.append(slice(low - at * size, high - at * size))
        target.append(slice(low - part.start, high - part.start))
        first.append(low)
    return tuple(source), tuple(target), tuple(first)
