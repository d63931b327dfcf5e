"""Codec pipelines of the columns, and their encoding and decoding without the event loop of Zarr.

A pipeline is the list of codec objects that stands in ``zarr.json``; any Zarr v3 reader understands it. Which
one a column gets was measured on simulated surveys, inner chunks of 65,536 rows, one thread: bytes, ns to
encode, ns to decode a row.

| column | chosen | | instead | |
| --- | --- | --- | --- | --- |
| time, shared exposures | zstd-1 | 0.69, 8.4, 3.6 | blosc lz4-5 bitshuffle | 5.81, 5.7, 3.3 |
| time at the Sun, 5 to 7 digits | zstd-3 | 1.7 to 4.2, 23 to 43, 6 to 9 | blosc lz4-5 shuffle | 4.7, 9, 3 |
| value, float32 | blosc lz4-5 bitshuffle | 2.38, 2.4, 1.6 | blosc zstd-1 bitshuffle | 2.34, 5.9, 2.2 |
| error, float32, all digits | blosc lz4-5 bitshuffle | 3.01, 2.4, 1.6 | blosc lz4-5 shuffle | 3.1, 1.1, 0.6 |
| value, float64 from text with 3 digits | zstd-3 | 2.16, 41, 11 | blosc lz4-5 bitshuffle | 5.98, 6, 4.5 |
| error, the same with 4 digits | zstd-3 | 1.57, 33, 12 | blosc lz4-5 bitshuffle | 6.53, 6, 4.7 |
| band | zstd-1 | 0.008, 0.4, 0.4 | blosc zstd-1 bitshuffle | 0.011, 0.8, 0.8 |
| object_id, uint64 | blosc zstd-1 bitshuffle | 2.16, 7, 4 | zstd-1 | 2.45, 20, 8 |
| object_id, names | blosc zstd-1 shuffle | 2.2 to 4.2 | zstd-1 | 3.2 to 5.1 |

Exposure times repeat from object to object, and shuffling would destroy these long matches; noisy float32
columns gain from bitshuffle only; decimal numbers in float64 look like noise bit by bit and repeat whole.
crc32c is always last, so that a flipped byte is found before anything is decompressed.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import google_crc32c
import numpy as np


def _blosc(cname: str, level: int, shuffle: str) -> dict[str, Any]:
    return {"name": "blosc", "configuration": {"cname": cname, "clevel": level, "shuffle": shuffle}}


def _zstd(level: int) -> dict[str, Any]:
    return {"name": "zstd", "configuration": {"level": level, "checksum": False}}


# Name of a pipeline -> compressor, by the kind of dtype where that matters ("f8" before "f" before "").
_COMPRESSORS: dict[str, dict[str, dict[str, Any]]] = {
    "default": {"": _blosc("zstd", 1, "bitshuffle")},
    "float": {"": _blosc("lz4", 5, "bitshuffle")},
    "measure": {"": _blosc("lz4", 5, "bitshuffle"), "f8": _zstd(3)},
    "time": {"": _zstd(1)},
    "own time": {"": _zstd(3)},
    "text": {"": _zstd(1)},
    "id": {"": _blosc("zstd", 1, "bitshuffle"), "S": _blosc("zstd", 1, "shuffle")},
    "code": {"": _zstd(1)},
    "quantised": {"": _blosc("zstd", 1, "shuffle")},
}

_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}

CODECS = tuple(_COMPRESSORS)


def pipeline(codec: str, dtype: np.dtype) -> list[dict[str, Any]]:
    """Inner codecs of a column, as they stand in ``zarr.json``.

    Parameters
    ----------
    codec : str
        Name of the pipeline: "default"; "float" computed numbers; "measure" numbers as delivered; "time"
        times that objects share; "own time" times that they do not; "id" numbers or names that differ; "text"
        a few names that repeat; "code" small integers; "quantised" pixels whose noise fits a byte.
    dtype : numpy.dtype
        Type of the column.

    Returns
    -------
    list of dict
        bytes, one compressor, crc32c.
    """
    if codec not in _COMPRESSORS:
        raise ValueError(f"unknown codec {codec!r}; choose from {', '.join(CODECS)}")
    choices = _COMPRESSORS[codec]
    compressor = choices.get(f"{dtype.kind}{dtype.itemsize}") or choices.get(dtype.kind) or choices[""]
    configuration = dict(compressor["configuration"])
    if compressor["name"] == "blosc":
        configuration |= {"typesize": min(dtype.itemsize, 255), "blocksize": 0}
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


def encoded_size(values: np.ndarray, codec: str, rows: int = 65_536) -> int:
    """Bytes that a column takes in chunks of `rows` rows, without index; nothing is written."""
    coder = Coder(pipeline(codec, values.dtype))
    chunks = (np.ascontiguousarray(values[start : start + rows]) for start in range(0, len(values), rows))
    return sum(len(piece) for chunk in chunks for piece in coder.encode(chunk))


def described(codecs: Sequence[dict[str, Any]]) -> str:
    """Compressor of inner codecs in words, such as "zstd 1" or "blosc lz4 5 bitshuffle"."""
    if len(codecs) < 3:
        return "none"
    settings = codecs[1]["configuration"]
    if codecs[1]["name"] == "zstd":
        return f"zstd {settings['level']}"
    return f"blosc {settings['cname']} {settings['clevel']} {settings['shuffle']}"


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
