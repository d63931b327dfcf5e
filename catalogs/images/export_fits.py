"""Frames as FITS files that explain themselves: header cards of the image, provenance, units, checksums."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.images.export_source import PLANES, Piece, Source, text_of
from skytrawl.catalogs.images.export_tables import Table
from skytrawl.kernels import flags

# Keywords that say how pixels lie in the file: those of the new one are not those of the old.
_LAYOUT = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|BSCALE|BZERO|BLANK|EXTNAME|EXTVER|EXTLEVEL|"
    r"INHERIT|CHECKSUM|DATASUM|BUNIT|TFIELDS|T(TYPE|FORM)\d+|THEAP|Z(IMAGE|CMPTYPE|BITPIX|NAXIS\d*|TILE\d+|"
    r"NAME\d+|VAL\d+|QUANTIZ|DITHER0|SIMPLE|TENSION|PCOUNT|GCOUNT|EXTEND|HECKSUM|DATASUM|BLANK)"
)
# Keyword -> (key of the provenance, comment).
_STORE = {
    "SKTVERS": ("software", "software that made this file"),
    "SKTJOB": ("job", "job that made the frame"),
    "SKTRUN": ("run", "fingerprint of its parameters and inputs"),
    "SKTKIND": ("kind", "what the frame is one of"),
    "SKTSTORE": ("fingerprint", "of the version of the store"),
}
_FRAME = {
    "SKTFRAME": ("frame", "name in the store"),
    "SKTHASH": ("content", "hash of the frame"),
    "SKTPARM": ("read_with", "fingerprint of how the image was read"),
    "SKTREF": ("reference", "frame that was subtracted"),
    "SKTMODE": ("mode", "how it was subtracted"),
    "SKTSHA": ("sha256", ""),
}
_TOLD = (
    "software",
    "job",
    "run",
    "kind",
    "fingerprint",
    "frame",
    "content",
    "sha256",
    "mode",
    "reference",
    "read_with",
)


class FitsFile:
    """A FITS file that grows by one extension at a time, each with DATASUM and CHECKSUM.

    Parameters
    ----------
    path : Path
        Must not exist.
    cards : str
        Of the primary header of the image, without what describes its layout.
    """

    def __init__(self, path: Path, cards: str = "") -> None:
        self.path = path
        self._cards = cards

    def begin(self, source: Source, frame_id: str) -> None:
        """Write the primary header: cards of the original, keywords and HISTORY of the provenance."""
        from astropy.io import fits

        whole, own = source.provenance(), source.of_frame(frame_id)
        header = header_of(self._cards)
        for keywords, values in ((_STORE, whole), (_FRAME, own)):
            for keyword, (name, comment) in keywords.items():
                if values.get(name):
                    header[keyword] = (_ascii(str(values[name])), comment)
        for name, value in {**whole, **own}.items():
            if name not in _TOLD and value not in ("", None):
                header.add_history(f"skytrawl {name}: {_ascii(text_of(value))}")
        with _quiet():
            fits.PrimaryHDU(header=header).writeto(self.path, checksum=True, output_verify="silentfix+ignore")

    def add(self, piece: Piece, cards: str, njy: float) -> None:
        """Append an array; with the cards of the image where its pixels are those of the image."""
        from astropy.io import fits

        header = header_of(cards if piece.sky else "")
        if piece.unit:
            header["BUNIT"] = (_ascii(piece.unit), "of the pixels")
        if PLANES.get(piece.name, ("", 0, ""))[1] == 1 and np.isfinite(njy):
            header["SKTNJY"] = (njy, "[nJy] flux of one unit of the image")
        header.add_comment(f"{piece.extension}: {piece.meaning}" if piece.meaning else piece.name)
        if piece.extension == "MASK":
            explain_mask(header)
        self._append(fits.ImageHDU(_native(piece.values), header, name=piece.extension))

    def add_distortion(self, cards: str, values: np.ndarray) -> None:
        """Append a distortion table of the WCS, named as the header of the image calls it."""
        from astropy.io import fits

        old = fits.Header.fromstring(cards)
        hdu = fits.ImageHDU(_native(values), header_of(cards), name=old.get("EXTNAME", ""))
        hdu.ver = int(old.get("EXTVER", 1))
        self._append(hdu)

    def add_table(self, table: Table, name: str, comments: Mapping[str, str] | None = None) -> None:
        """Append columns as a binary table; lists become arrays of the length of the longest."""
        from astropy.io import fits

        columns = []
        for column in table.names():
            values = _fits_column(table, column)
            shape = values.shape[1:]
            if values.dtype.kind == "S":
                format = f"{max(1, values.dtype.itemsize)}A"
            else:
                format = f"{int(np.prod(shape, dtype=int))}{_FORMATS[values.dtype.str[1:]]}"
            dim = "(" + ",".join(map(str, reversed(shape))) + ")" if len(shape) > 1 else None
            zero = {"u2": 1 << 15, "u4": 1 << 31, "u8": 1 << 63}.get(values.dtype.str[1:])
            unit = _ascii(table.unit(column)) or None
            columns.append(
                fits.Column(column, format, unit=unit, dim=dim, bzero=zero, array=values)
            )  # fmt: skip
        with _quiet():
            hdu = fits.BinTableHDU.from_columns(columns, name=name)
        for number, column in enumerate(table.names(), 1):
            meaning = table.about.get(column, ("", ""))[1]
            if meaning:
                hdu.header[f"TCOMM{number}"] = _ascii(meaning)
        for text in (comments or {}).values():
            hdu.header.add_comment(_ascii(text))
        if "flags" in table.columns:
            explain_mask(hdu.header)
        self._append(hdu)

    def _append(self, hdu: Any) -> None:
        # Astropy's own way of appending verifies all headers of the file anew for each extension.
        buffer = io.BytesIO()
        with _quiet():
            hdu.writeto(buffer, checksum=True, output_verify="silentfix+ignore")
        with open(self.path, "ab") as file:
            file.write(buffer.getbuffer()[_BLOCK:])  # without the empty primary header before it


_BLOCK = 2880
_FORMATS = {
    "b1": "L", "u1": "B", "i2": "I", "u2": "I", "i4": "J", "u4": "J", "i8": "K", "u8": "K", "f4": "E",
    "f8": "D",
}  # fmt: skip


def header_of(cards: str) -> Any:
    """The cards of an image as an astropy header, without those that describe the layout of its file."""
    from astropy.io import fits

    if not cards:
        return fits.Header()
    header = fits.Header.fromstring(cards, sep="\n" if "\n" in cards else "")
    for keyword in {key for key in header if _LAYOUT.fullmatch(key)}:
        header.remove(keyword, ignore_missing=True, remove_all=True)
    return header


def explain_mask(header: Any) -> None:
    """Say what the bits of the mask mean, for readers and for programs (MSKBITn, and UNUSABLE)."""
    for name, bit in flags.NAMES.items():
        used = "" if bit & flags.UNUSABLE else ", pixel usable"
        header[f"MSKBIT{bit.bit_length() - 1}"] = (name, f"value {bit}{used}")
    header["MSKBAD"] = (flags.UNUSABLE, "a pixel with any of these bits is unusable")


def _fits_column(table: Table, name: str) -> np.ndarray:
    values = table.values(name)
    if isinstance(values, list):
        longest = max([1, *map(len, values)])
        kind = table.columns[name].dtype.kind
        padded = np.full((len(values), longest), -1 if kind in "iu" else np.nan)
        padded = padded.astype(np.int64 if kind in "iu" else np.float64)
        for number, item in enumerate(values):
            padded[number, : len(item)] = item
        return padded
    if values.dtype.kind == "U":
        return np.char.encode(values, "ascii", "replace")
    # FITS has no signed bytes.
    return values.astype(np.int16) if values.dtype == np.int8 else values


def _native(values: np.ndarray) -> np.ndarray:
    """Values in a type that images have."""
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    return values.astype(np.int16) if values.dtype == np.int8 else values


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


@contextmanager
def _quiet() -> Iterator[None]:
    """What astropy mends in cards of others, or finds too long for a comment, is no news."""
    from astropy.io.fits.verify import VerifyWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VerifyWarning)
        yield
