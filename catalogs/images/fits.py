"""FITS files as delivered: structure, checksums, exact header cards, and pixels as astropy decodes them.

The structure is read here, block by block (FITS standard 4.0, sections 3 and 4), because a library that
repairs what it can says too little about what is wrong: a file cut short loses its last extensions without a
word.
"""

from __future__ import annotations

import hashlib
import io
import mmap
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from skytrawl.errors import IngestError

BLOCK: Final = 2880
CARD: Final = 80
BITPIX: Final = (8, 16, 32, 64, -32, -64)
_MOST_CARDS = 100_000
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


@dataclass(frozen=True)
class Unit:
    """One header and data unit.

    Attributes
    ----------
    index : int
        0 is the primary one.
    name : str
        EXTNAME, "" without one.
    version : int
        EXTVER, 1 without one.
    kind : {"image", "compressed", "table", "other"}
        "compressed" is an image in tiles (FITS standard 4.0, section 10).
    shape : tuple of int
        Of the image, slowest axis first; () where the unit holds none.
    cards : str
        The header exactly as in the file, 80 characters a card, END included.
    start, data, end : int
        Bytes: begin of the header, of the data, and end of the data.
    """

    index: int
    name: str
    version: int
    kind: str
    shape: tuple[int, ...]
    cards: str
    start: int
    data: int
    end: int

    @property
    def plane(self) -> tuple[int, ...]:
        """The shape without axes of length 1."""
        return tuple(size for size in self.shape if size != 1) or self.shape[-2:]

    @property
    def is_image(self) -> bool:
        """Whether it holds pixels."""
        return self.kind in ("image", "compressed") and bool(self.shape)


class FitsFile:
    """A FITS file that is complete, with its units.

    Made by :func:`open_fits`.

    Attributes
    ----------
    path : Path
    sha256 : str
        Of the file's bytes as delivered.
    nbytes : int
        Size of the file.
    units : list of Unit
    """

    def __init__(self, path: Path, content: Any, sha256: str, nbytes: int) -> None:
        self.path, self.sha256, self.nbytes = path, sha256, nbytes
        self._content = content
        self._opened: Any = None
        self.units = list(_units(path, content))

    def header(self, unit: Unit) -> Any:
        """The header of a unit (astropy); that of the image, where it is compressed."""
        return self._hdu(unit).header

    def image(self, unit: Unit) -> np.ndarray:
        """The pixels of a unit, decoded as astropy does, in the byte order of this machine.

        Returns
        -------
        array of shape (ny, nx)
            float32 and float64 as delivered; integers too, unless BSCALE and BZERO make them unsigned or
            floating point, or BLANK marks some as NaN.

        Raises
        ------
        IngestError
            If there is no image, or its data cannot be decoded.
        """
        where = label(self.path, unit)
        if not unit.is_image or 0 in unit.shape:
            raise IngestError(f"{where} has no data: its header says NAXIS=0 or an axis of length 0")
        if len(unit.plane) != 2:
            raise IngestError(f"{where} has axes {unit.shape}: only images of two axes can be taken")
        try:
            with _quiet():
                values = np.asarray(self._hdu(unit).data).reshape(unit.plane)
        except Exception as error:
            raise IngestError(f"{where} cannot be decoded: {type(error).__name__}: {error}") from error
        return np.ascontiguousarray(values, values.dtype.newbyteorder("="))

    def verify(self, unit: Unit) -> str:
        """Compare DATASUM and CHECKSUM of a unit with its bytes.

        Returns
        -------
        {"ok", "absent", "header changed", "failed"}
            "header changed": the data are what DATASUM says, but the header was edited after CHECKSUM was
            written. "failed": the data are not what was checked, either by DATASUM or, where that is absent,
            by CHECKSUM.

        Notes
        -----
        The sum is that of ones' complement over 32-bit words (FITS standard 4.0, section 4.4.2.7 and appendix
        J); the whole unit sums to -0 when CHECKSUM is right.
        """
        stored, total = _text_of(unit.cards, "DATASUM"), _text_of(unit.cards, "CHECKSUM")
        if not stored and not total:
            return "absent"
        data = ones_complement(self._content, unit.data, unit.end)
        if stored:
            if not stored.isdigit() or int(stored) != data:
                return "failed"
            if not total:
                return "ok"
        if ones_complement(self._content, unit.start, unit.data, data) in (0, 0xFFFFFFFF):
            return "ok"
        return "header changed" if stored else "failed"

    def find(self, name: str, version: int | None = None) -> Unit | None:
        """The first image unit of this name (letter case does not count)."""
        for unit in self.units:
            if (
                unit.name.upper() == name.upper()
                and version in (None, unit.version)
                and unit.kind in ("image", "compressed")
            ):
                return unit
        return None

    def close(self) -> None:
        """Release the file."""
        if self._opened is not None:
            self._opened.close()
        if isinstance(self._content, mmap.mmap):
            self._content.close()

    def _hdu(self, unit: Unit) -> Any:
        from astropy.io import fits

        with _quiet():
            if self._opened is None:
                source = self.path if isinstance(self._content, mmap.mmap) else io.BytesIO(self._content)
                self._opened = fits.open(source, memmap=False)
            return self._opened[unit.index]


@contextmanager
def open_fits(path: str | Path) -> Iterator[FitsFile]:
    """Open a FITS file, plain or inside gzip, bzip2 or xz, and check that it is whole.

    Parameters
    ----------
    path : str or Path

    Yields
    ------
    FitsFile

    Raises
    ------
    IngestError
        If it is a folder, empty, no FITS file, cut short, or its structure contradicts the standard.
    """
    path = Path(path)
    if path.is_dir():
        raise IngestError(f"{path} is a folder, not a FITS file")
    try:
        with path.open("rb") as file:
            head = file.read(8)
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            nbytes = file.tell()
            if not nbytes:
                raise IngestError(f"{path} is empty")
            packed = next((name for magic, name in _COMPRESSIONS.items() if head.startswith(magic)), None)
            content: Any = (
                _unpacked(path, packed) if packed else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            )
    except OSError as error:
        raise IngestError(f"{path} cannot be read: {error.strerror or error}") from error
    opened = None
    try:
        opened = FitsFile(path, content, sha256, nbytes)
        yield opened
    finally:
        if opened is not None:
            opened.close()
        elif isinstance(content, mmap.mmap):
            content.close()


def label(path: Path, unit: Unit) -> str:
    """How messages name a unit: ``file.fits[S9]``."""
    return f"{path}[{unit.name or unit.index}]"


def ones_complement(content: Any, start: int, end: int, total: int = 0) -> int:
    """Sum of big-endian 32-bit words with the carry added at the low end, added to `total`."""
    for low in range(start, end, BLOCK * 4096):
        words = np.frombuffer(content, ">u4", (min(end, low + BLOCK * 4096) - low) // 4, low)
        total += int(words.sum(dtype=np.uint64))
        del words  # an exported buffer keeps the file from being closed
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _unpacked(path: Path, how: str) -> bytes:
    import bz2
    import gzip
    import lzma

    reader = {"gzip": gzip, "bzip2": bz2, "xz": lzma}[how]
    try:
        with reader.open(path) as file:
            return file.read()
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise IngestError(f"{path} is damaged or cut short inside its {how} compression: {error}") from error


def _units(path: Path, content: Any) -> Iterator[Unit]:
    if not content[:9] == b"SIMPLE  =":
        raise IngestError(f"{path} is not a FITS file: it does not begin with SIMPLE")
    position = index = 0
    size = len(content)
    while position < size:
        if index and content[position : position + 9] != b"XTENSION=":
            if not bytes(content[position:size]).strip(b"\0 "):
                return  # padding of tapes
            raise IngestError(
                f"{path} has {size - position} bytes behind unit {index - 1} that are no extension: the "
                "file is damaged; fetch it again"
            )
        unit = _unit(path, content, position, index)
        if unit.end > size:
            # The last block need not be filled up: astropy and cfitsio read such files too.
            short = unit.end - size
            if unit.data + _data_bytes(path, unit.cards, index) > size:
                raise IngestError(
                    f"{label(path, unit)} is cut short: {short} bytes are missing of {unit.end}; fetch the "
                    "file again"
                )
            unit = Unit(**{**unit.__dict__, "end": size - (size - unit.data) % 4})
        yield unit
        position, index = max(unit.end, position + BLOCK), index + 1


def _unit(path: Path, content: Any, start: int, index: int) -> Unit:
    end = _end_of_header(path, content, start, index)
    cards = bytes(content[start:end]).decode("latin-1")
    data = start + -(-(end - start) // BLOCK) * BLOCK
    size = _data_bytes(path, cards, index)
    kind = "image" if index == 0 else _text_of(cards, "XTENSION").upper()
    kind = {"image": "image", "IMAGE": "image", "BINTABLE": "table", "TABLE": "table"}.get(kind, "other")
    prefix = "Z" if kind == "table" and _text_of(cards, "ZIMAGE") == "T" else ""
    kind = "compressed" if prefix else kind
    shape: tuple[int, ...] = ()
    if kind in ("image", "compressed"):
        if prefix:
            _bitpix(path, cards, index, "ZBITPIX")
        axes = _number(path, cards, index, f"{prefix}NAXIS")
        shape = tuple(_number(path, cards, index, f"{prefix}NAXIS{axis}") for axis in range(axes, 0, -1))
    version = _text_of(cards, "EXTVER")
    return Unit(
        index,
        _text_of(cards, "EXTNAME"),
        int(version) if version.isdigit() else 1,
        kind,
        shape,
        cards,
        start,
        data,
        data + -(-size // BLOCK) * BLOCK,
    )


def _end_of_header(path: Path, content: Any, start: int, index: int) -> int:
    stop = min(len(content), start + _MOST_CARDS * CARD)
    for position in range(start, stop, CARD):
        if content[position : position + 8] in (b"END     ", b"END"):
            return min(position + CARD, len(content))
    raise IngestError(
        f"{path}: the header of unit {index} has no END card: the file is cut short or damaged; fetch it "
        "again"
    )


def _data_bytes(path: Path, cards: str, index: int) -> int:
    """Bytes of the data without padding (FITS standard 4.0, equation 2)."""
    bits = abs(_bitpix(path, cards, index, "BITPIX"))
    axes = _number(path, cards, index, "NAXIS")
    if not 0 <= axes <= 999:
        raise IngestError(f"{path}: unit {index} has NAXIS={axes}, which the FITS standard does not allow")
    sizes = [_number(path, cards, index, f"NAXIS{axis + 1}") for axis in range(axes)]
    if any(size < 0 for size in sizes):
        raise IngestError(f"{path}: unit {index} has an axis of negative length: {sizes}")
    groups, heap = (int(_text_of(cards, key) or default) for key, default in (("GCOUNT", 1), ("PCOUNT", 0)))
    count = 1
    for size in sizes:
        count *= size
    return bits // 8 * groups * (heap + count) if axes else 0


def _bitpix(path: Path, cards: str, index: int, key: str) -> int:
    bits = _number(path, cards, index, key)
    if bits not in BITPIX:
        raise IngestError(
            f"{path}: unit {index} has {key}={bits}; the FITS standard knows {', '.join(map(str, BITPIX))}: "
            "the header is damaged or was written by a faulty program"
        )
    return bits


def _number(path: Path, cards: str, index: int, key: str) -> int:
    text = _text_of(cards, key)
    try:
        return int(text)
    except ValueError:
        found = f"{key}={text!r}" if text else f"no {key}"
        raise IngestError(f"{path}: unit {index} has {found} where a whole number is required") from None


def _text_of(cards: str, key: str) -> str:
    """Value of the first card of this key as text, "" without one."""
    mark = f"{key:<8}="
    for position in range(0, len(cards), CARD):
        if cards.startswith(mark, position):
            value = cards[position + 9 : position + CARD].strip()
            quoted = re.match(r"'((?:[^']|'')*)'", value)
            return quoted[1].rstrip() if quoted else value.split("/")[0].strip()
    return ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without astropy's remarks on cards that it can read all the same."""
    from astropy.utils.exceptions import AstropyWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        yield
