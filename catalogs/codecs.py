"""Codec pipelines of the columns, and their encoding and decoding without the event loop of Zarr.

A pipeline is the list of codec objects that stands in ``zarr.json``; any Zarr v3 reader understands it. The
settings were measured on a simulated ZTF-like archive: exposure times repeat from object to object, and
shuffling would destroy these long matches (plain zstd 8.1x, bitshuffled 1.4x); noisy float columns gain
from bitshuffle only. crc32c is always last, so that a flipped byte is found before anything is
decompressed.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import google_crc32c
import numpy as np

# Name of a pipeline -> compressor; blosc also gets the item size of the column.
_COMPRESSORS: dict[str, dict[str, Any]] = {
    "default": {"name": "blosc", "configuration": {"cname": "zstd", "clevel": 1, "shuffle": "bitshuffle"}},
    "float": {"name": "blosc", "configuration": {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle"}},
    "time": {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
    "id": {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
    "code": {"name": "blosc", "configuration": {"cname": "zstd", "clevel": 1, "shuffle": "bitshuffle"}},
}

_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}

CODECS = tuple(_COMPRESSORS)


def pipeline(codec: str, dtype: np.dtype) -> list[dict[str, Any]]:
    """Inner codecs of a column, as they stand in ``zarr.json``.

    Parameters
    ----------
    codec : {"default", "float", "time", "id", "code"}
        Name of the pipeline.
    dtype : numpy.dtype
        Type of the column.

    Returns
    -------
    list of dict
        bytes, one compressor, crc32c.
    """
    if codec not in _COMPRESSORS:
        raise ValueError(f"unknown codec {codec!r}; choose from {', '.join(CODECS)}")
    compressor = _COMPRESSORS[codec]
    configuration = dict(compressor["configuration"])
    if compressor["name"] == "blosc":
        configuration |= {"typesize": dtype.itemsize, "blocksize": 0}
    to_bytes: dict[str, Any] = {"name": "bytes"}
    if dtype.itemsize > 1 and dtype.kind != "S":
        to_bytes["configuration"] = {"endian": "little"}
    return [to_bytes, {"name": compressor["name"], "configuration": configuration}, {"name": "crc32c"}]


class Coder:
    """Encodes and decodes the inner chunks of one column.

    Parameters
    ----------
    codecs : sequence of dict
        Inner codecs as in ``zarr.json``: little-endian bytes, at most one of blosc and zstd, crc32c last.

    Raises
    ------
    ValueError
        For another order or another codec.
    """

    def __init__(self, codecs: Sequence[dict[str, Any]]) -> None:
        names = [codec["name"] for codec in codecs]
        if names[:1] != ["bytes"] or names[-1:] != ["crc32c"] or len(names) > 3:
            raise ValueError(f"unsupported codecs {names}: expected bytes, one compressor, crc32c")
        if codecs[0].get("configuration", {}).get("endian", "little") != "little":
            raise ValueError("unsupported codecs: the bytes are not little-endian")
        self._compressor = _compressor(codecs[1]) if len(names) == 3 else None

    def encode(self, chunk: np.ndarray) -> list[bytes]:
        """Encoded bytes of one C-contiguous chunk, in pieces to be joined: payload and checksum."""
        payload = chunk.tobytes() if self._compressor is None else bytes(self._compressor.encode(chunk))
        return [payload, google_crc32c.value(payload).to_bytes(4, "little")]

    def decode(self, data: np.ndarray, out: np.ndarray) -> None:
        """Decode one chunk into `out`.

        Parameters
        ----------
        data : uint8 array
            Encoded bytes with their checksum.
        out : C-contiguous array
            Exactly one chunk.

        Raises
        ------
        ValueError
            If the checksum does not match or the length is wrong.
        """
        if len(data) < 4:
            raise ValueError(f"a chunk of {len(data)} bytes has no checksum")
        payload = data[:-4]
        stored = int.from_bytes(data[-4:].tobytes(), "little")
        if google_crc32c.value(payload) != stored:
            raise ValueError("the checksum (crc32c) does not match the bytes")
        if self._compressor is None:
            out.reshape(-1).view(np.uint8)[...] = payload
            return
        decoded = self._compressor.decode(payload, out=out)
        if decoded is not out and np.asarray(decoded).nbytes != out.nbytes:
            raise ValueError(f"a chunk decodes to {np.asarray(decoded).nbytes} bytes instead of {out.nbytes}")


def _compressor(codec: dict[str, Any]) -> Any:
    configuration = codec.get("configuration", {})
    if codec["name"] == "blosc":
        from numcodecs.blosc import Blosc

        # The item size comes with the array at encoding; older numcodecs has no such argument.
        return Blosc(
            cname=configuration["cname"],
            clevel=configuration["clevel"],
            shuffle=_SHUFFLES[configuration["shuffle"]],
            blocksize=configuration.get("blocksize", 0),
        )
    if codec["name"] == "zstd":
        from numcodecs.zstd import Zstd

        return Zstd(level=configuration["level"], checksum=configuration.get("checksum", False))
    raise ValueError(f"unsupported compressor {codec['name']!r}: expected blosc or zstd")


crc32c: Callable[[Any], int] = google_crc32c.value


@lru_cache(maxsize=256)
def fill_value(dtype: np.dtype) -> Any:
    """The value of rows that were never written: NaN, zero, False or the empty string."""
    if dtype.kind == "f":
        return dtype.type(np.nan)
    if dtype.kind == "S":
        return b""
    return dtype.type(0)
