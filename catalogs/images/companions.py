"""Masks, noise planes and PSF models that go with an image: where they stand, and what their values mean."""

from __future__ import annotations

import glob
import math
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.images.columns import Cards, version_below
from skytrawl.catalogs.images.fits import FitsFile, Unit, label, open_fits
from skytrawl.catalogs.images.headers import Bits, HeaderMap, Plane
from skytrawl.errors import IngestError
from skytrawl.kernels import flags

ASINH = 2.5 / math.log(10)  # Lupton, Gunn and Szalay 1999, AJ 118, 1406: Pogson's ratio
# Names of mask planes in cards MP_<NAME> of Rubin images, and the bit each becomes; others are passed over.
_RUBIN = {
    "BAD": flags.BAD,
    "SAT": flags.SATURATED,
    "CR": flags.COSMIC_RAY,
    "EDGE": flags.EDGE,
    "SENSOR_EDGE": flags.EDGE,
    "NO_DATA": flags.NO_DATA,
    "UNMASKEDNAN": flags.NO_DATA,
    "INTRP": flags.INTERPOLATED,
    "SUSPECT": flags.SUSPECT,
    "VIGNETTED": flags.SUSPECT,
    "CROSSTALK": flags.CROSSTALK,
    "STREAK": flags.STREAK,
    "SPIKE": flags.SPIKE,
    "BLEED": flags.BLEED,
}


class Companions:
    """The files beside an image, opened once for all images of its file.

    Parameters
    ----------
    file : FitsFile
        With the images.
    found : HeaderMap
    optional : bool
        Go on where a required companion is missing.
    checksums : {"refuse", "note"}
        What a plane whose data sum is wrong leads to.
    """

    def __init__(self, file: FitsFile, found: HeaderMap, *, optional: bool, checksums: str) -> None:
        self.file, self.found = file, found
        self.optional, self.checksums = optional, checksums
        self._stack = ExitStack()
        self.opened: dict[Path, FitsFile] = {}

    def __enter__(self) -> Companions:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def plane(
        self, kinds: tuple[str, ...], unit: Unit, cards: Cards
    ) -> tuple[Plane, np.ndarray, Cards, str] | None:
        """The first plane of these kinds that an image has: its entry, values, header and name.

        Raises
        ------
        IngestError
            If a required one is missing, or one has another shape than the image, or is damaged.
        """
        for entry, source, there in self._places(kinds, unit, cards):
            where = label(source.path, there)
            if source.verify(there) == "failed" and self.checksums == "refuse":
                raise IngestError(f"{where}: the data are not what DATASUM says: fetch the file again")
            header = Cards(source.header(there), source.header(source.units[0]))
            values = source.image(there)
            if values.shape != unit.plane:
                raise IngestError(f"{where} has shape {values.shape}, the image has {unit.plane}")
            return entry, values, header, where
        return None

    def psf(self, unit: Unit, cards: Cards) -> tuple[Any, str] | None:
        """The PSF model of an image and its file; None where the survey keeps none."""
        from skytrawl.catalogs.images.psfex import read_psfex

        for entry in self.found.planes:
            path = self._sibling(entry, cards) if entry.kind == "psf" else None
            if path is not None:
                return read_psfex(path, detector=unit.name or None), str(path)
        return None

    def _places(
        self, kinds: tuple[str, ...], unit: Unit, cards: Cards
    ) -> Iterator[tuple[Plane, FitsFile, Unit]]:
        missing: list[str] = []
        for entry in self.found.planes:
            if entry.kind not in kinds:
                continue
            if not entry.match:
                here = self._extension(self.file, entry, unit)
                if here is not None:
                    yield entry, self.file, here
                continue
            path = self._sibling(entry, cards)
            if path is None:
                if entry.required and re.search(entry.match, self.file.path.as_posix()):
                    missing.append(
                        f"no {entry.kind} beside {self.file.path} ({_pattern(entry, self.file.path)})"
                    )
                continue
            source = self._opened(path)
            there = self._extension(source, entry, unit)
            if there is None:
                names = ", ".join(item.name or str(item.index) for item in source.units if item.is_image)
                raise IngestError(
                    f"{path} has no {entry.kind} for extension {unit.name or unit.index}: it holds "
                    f"{names or 'none'}"
                )
            yield entry, source, there
        if missing and not self.optional:
            raise IngestError(f"{missing[0]}: fetch it, or allow images without it")

    def _extension(self, source: FitsFile, entry: Plane, unit: Unit) -> Unit | None:
        for name in entry.extension:
            there = source.find(name, unit.version) or (source.find(name) if unit.version == 1 else None)
            if there is not None and there is not unit:
                return there
        if entry.extension or source is self.file:
            return None
        named = source.find(unit.name) if unit.name else None
        if named is not None:
            return named
        images = [item for item in source.units if item.is_image]
        # Without a common name the place decides: the same one, or the only image there is.
        same = next((item for item in images if item.index == unit.index and not item.name), None)
        return same or (images[0] if len(images) == 1 and not _is_one_of_many(self.file) else None)

    def _opened(self, path: Path) -> FitsFile:
        if path not in self.opened:
            self.opened[path] = self._stack.enter_context(open_fits(path))
        return self.opened[path]

    def _sibling(self, entry: Plane, cards: Cards) -> Path | None:
        pattern = _pattern(entry, self.file.path, cards)
        found = sorted(Path(item) for item in glob.glob(pattern)) if pattern else []
        return next((path for path in found if path != self.file.path), None)


def to_flags(values: np.ndarray, cards: Cards, meanings: tuple[Bits, ...], where: str) -> np.ndarray:
    """Translate the mask of a survey into bits of :mod:`skytrawl.kernels.flags`.

    Parameters
    ----------
    values : integer or bool array, or floats that are whole numbers
    cards : Cards
        Of the mask: they tell the version that wrote it, and MP_<NAME> name bits (Rubin).
    meanings : tuple of Bits
        The first that holds for this file.
    where : str
        For messages.

    Returns
    -------
    uint16 array

    Raises
    ------
    IngestError
        If the values are no whole numbers.
    """
    if values.dtype.kind == "f":
        whole = np.where(np.isfinite(values), values, 1)
        if not (whole == np.rint(whole)).all():
            raise IngestError(f"{where}: the mask holds values that are no whole numbers")
        values = whole.astype(np.int64)
    named = {
        key[3:]: value
        for key, value in cards.header.items()
        if key.startswith("MP_") and isinstance(value, int)
    }
    out = np.zeros(values.shape, flags.DTYPE)
    if named:
        for name, number in named.items():
            if name in _RUBIN and 0 <= number < 8 * values.dtype.itemsize:
                out[(values >> number) & 1 != 0] |= _RUBIN[name]
        return out
    bits = next((item for item in meanings if not item.key or _holds(item, cards)), None)
    if bits is None or bits.style == "any":
        out[values != 0] = flags.BAD
        return out
    for name, numbers in bits.meanings.items():
        if bits.style == "codes":
            out[np.isin(values, numbers)] |= flags.NAMES[name]
        else:
            wanted = sum(1 << number for number in numbers if number < 8 * values.dtype.itemsize)
            out[values & values.dtype.type(wanted) != 0] |= flags.NAMES[name]
    return out


def to_variance(kind: str, values: np.ndarray) -> np.ndarray:
    """Variances (float32) of variances, inverse variances or standard deviations; NaN where unknown."""
    values = np.asarray(values, np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        variance = {"weight": lambda: 1 / values, "noise": lambda: values**2, "variance": lambda: values}[
            kind
        ]()
        variance[~np.isfinite(variance) | (values <= 0)] = np.nan
        variance = variance.astype(np.float32)
    variance[~np.isfinite(variance)] = np.nan
    return variance


def unstretched(values: np.ndarray, cards: Cards) -> np.ndarray:
    """Fluxes (float32) of pixels that hold inverse hyperbolic sines (cards BOFFSET, BSOFTEN).

    flux = BOFFSET + 2 BSOFTEN sinh(pixel / 1.0857): Lupton, Gunn and Szalay 1999, and the PS1 documentation.
    Without these cards the pixels are linear already.
    """
    offset, soften = cards.number(("BOFFSET",)), cards.number(("BSOFTEN",))
    if math.isnan(soften) or math.isnan(offset):
        return values
    return (offset + 2 * soften * np.sinh(np.asarray(values, np.float64) / ASINH)).astype(np.float32)


def _holds(bits: Bits, cards: Cards) -> bool:
    value = cards(bits.key)
    return value is not None and version_below(value, bits.below)


def _is_one_of_many(file: FitsFile) -> bool:
    return sum(unit.is_image for unit in file.units) > 1


def _pattern(entry: Plane, path: Path, cards: Cards | None = None) -> str:
    """Glob pattern of the sibling of an image; "" where the entry is not meant for it."""
    text = path.absolute().as_posix()
    match = re.search(entry.match, text)
    if not entry.match or not match:
        return ""

    def value(found: re.Match[str]) -> str:
        if found[1]:
            return glob.escape(match[int(found[1])] or "")
        held = cards(found[2]) if cards else None
        return "*" if held is None else glob.escape(format(held, found[3] or "").strip())

    middle = re.sub(r"\\(\d)|\{([\w-]+)(?::([^}]*))?\}", value, entry.sibling)
    return glob.escape(text[: match.start()]) + middle + glob.escape(text[match.end() :])
