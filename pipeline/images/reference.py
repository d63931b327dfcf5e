"""Job reference: a coadd of the exposures of a field and band, to compare others with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.errors import ImageError, ParameterError
from skytrawl.frames.job import FrameJob, Unit
from skytrawl.images.pairing import Group, content, groups
from skytrawl.job import Prepared
from skytrawl.kernels import versions
from skytrawl.params import option

if TYPE_CHECKING:
    from skytrawl.catalogs.images.frame import Frame
    from skytrawl.catalogs.images.measured import Exposure
    from skytrawl.catalogs.images.store import FrameStore


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters of reference."""

    window: float = option(0.0, "no exposure enters that lies so near to the days a reference serves", "d")
    blocks: int = option(2, "blocks of time, each with a reference of the others; 1: one reference of all")
    first: float = option(float("-inf"), "earliest exposure that enters, MJD", "d")
    last: float = option(float("inf"), "latest exposure that enters, MJD", "d")
    most: int = option(30, "exposures of a reference; the deepest and sharpest are taken")
    max_fwhm: float = option(1.5, "widest PSF, times the median of the field and band")
    clip: float = option(5.0, "sigma beyond which pixels of single exposures are rejected", "sigma")
    pixel_scale: float = option(0.0, "of the grid; 0: the median of the exposures", "arcsec")

    def __post_init__(self) -> None:
        if self.window < 0 or self.pixel_scale < 0 or self.blocks < 1 or self.most < 1:
            raise ParameterError("window and pixel_scale must not be negative, blocks and most 1 at least")
        if not self.clip > 0 or not self.max_fwhm > 0 or not self.first < self.last:
            raise ParameterError("clip and max_fwhm must be positive, first before last")


def units(parameters: Parameters, prepared: Prepared, store: FrameStore) -> list[Unit]:
    """One unit a field, band and block of time."""
    table = store.table
    found = []
    for group in groups(table, window=parameters.window, blocks=parameters.blocks):
        rows = choose(table, group, parameters)
        if not len(rows):
            continue
        ids = [table["id"][row].decode() for row in rows]
        pixels = int((table["width"][rows] * table["height"][rows]).sum())
        parts = (table["content"][row].decode() for row in rows)
        found.append(Unit(group.id, tuple(ids), content(parts), pixels))
    if not found:
        raise ParameterError(
            f"{store.path} has no exposures for a reference: it takes measured stars, days between first and "
            "last, and, with several blocks, exposures outside the window of each block (blocks=1 makes one "
            "reference of all)"
        )
    return found


def choose(table: dict[str, np.ndarray], group: Group, parameters: Parameters) -> np.ndarray:
    """Rows of the exposures that enter, best first: by the error of a PSF flux, sky noise times FWHM."""
    rows = group.rows
    mjd = table["mjd"][rows]
    measured = table["n_stars"][rows] > 0 if "n_stars" in table else np.zeros(len(rows), bool)
    rows = rows[(mjd >= parameters.first) & (mjd <= parameters.last) & measured]
    if not len(rows):
        return rows
    fwhm = table["fwhm"][rows]
    rows = rows[fwhm <= parameters.max_fwhm * np.nanmedian(fwhm)]
    error = table["sky_sigma"][rows] * table["fwhm"][rows] * table["pixel_scale"][rows]
    # In nJy where all have a zero point, so that clouds count.
    unit = table["njy_per_unit"][rows]
    if np.isfinite(unit).all():
        error = error * unit
    return rows[np.argsort(error, kind="stable")][: parameters.most]


def make(store: FrameStore, unit: Unit, parameters: Parameters, prepared: Prepared, backend: str) -> Frame:
    """Coadd the exposures of a unit on a grid of their own, in the image units of the best.

    Raises
    ------
    ImageError
        If they do not lie on one field, or nothing can be measured on the coadd.
    """
    from dataclasses import replace

    from skytrawl.catalogs.images.exposure import wcs_arrays, wcs_of_frame
    from skytrawl.catalogs.images.measured import read_exposure
    from skytrawl.catalogs.images.wcs import field_grid
    from skytrawl.catalogs.images.wcs_grid import coordinate_grid
    from skytrawl.images.align import shared
    from skytrawl.kernels.resample import resample
    from skytrawl.kernels.resample.coadd import Coadd

    inputs, notes = together(store, unit.inputs)
    records = [store.record(name) for name in inputs]
    shapes = [(int(r["row"]["height"]), int(r["row"]["width"])) for r in records]
    systems = [
        wcs_of_frame(store.read(name, wcs_arrays(record["attrs"])))
        for name, record in zip(inputs, records, strict=True)
    ]
    wcs, shape = field_grid(list(zip(systems, shapes, strict=True)), scale=parameters.pixel_scale or None)
    base = read_exposure(store, inputs[0])
    coadd = Coadd(shape)
    used = []
    for name in inputs:
        exposure = base if name == base.id else read_exposure(store, name)
        try:
            found = None if exposure is base else shared(base, exposure)
            grid = coordinate_grid(wcs, exposure.wcs, shape, shape_in=exposure.planes.image.shape)
            if found is not None:
                grid = replace(grid, x=grid.x + found.dx, y=grid.y + found.dy)
            resampled = resample(exposure.planes, grid, shape)
            scale = 1.0 if found is None else found.scale
            covers = coadd.add(resampled, scale=scale, psf=exposure.psf, grid=grid)
        except (ImageError, ParameterError) as error:
            # A pixel scale, flux scale or noise that no kernel takes: of this exposure only.
            notes.append(f"{name} left out: {error}")
            continue
        if covers:
            # Not the exposure: its planes are in the coadd already.
            used.append((exposure.row, exposure.id))
    if not used:
        raise ImageError(f"no exposure can be used: {'; '.join(notes)}")
    done = coadd.finish(clip=parameters.clip)
    weights = np.array(coadd.weights) / sum(coadd.weights)
    rows, ids = zip(*used, strict=True)
    return _frame(unit, done, wcs, base, list(rows), list(ids), weights, notes)


def together(store: FrameStore, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Of exposures, those that reach the one that most others reach, that one first; and notes on the rest.

    One exposure whose pointing or field is wrong would otherwise stretch the coadd across the sky.
    """
    from skytrawl.catalogs.images.wcs_sky import vectors

    rows = [store.record(name)["row"] for name in names]
    ra, dec, width, height, scale = (
        np.array([row[column] for row in rows], float)
        for column in ("ra", "dec", "width", "height", "pixel_scale")
    )
    points = vectors(ra, dec)
    reach = np.radians(0.5 * np.hypot(width, height) * scale / 3600)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    near = apart <= reach[:, None] + reach[None]
    first = int(np.argmax(near.sum(axis=1)))  # the best of equals
    kept = [names[first], *(name for row, name in enumerate(names) if near[first, row] and row != first)]
    notes = [f"{name} left out: it does not overlap {names[first]}" for name in names if name not in kept]
    return kept, notes


def _frame(
    unit: Unit,
    done: Any,
    wcs: Any,
    base: Exposure,
    rows: list[dict[str, Any]],
    ids: list[str],
    weights: np.ndarray,
    notes: list[str],
) -> Frame:
    from skytrawl.catalogs.images.cover import place_of
    from skytrawl.catalogs.images.frame import Frame
    from skytrawl.catalogs.images.measured import measure_frame
    from skytrawl.catalogs.images.wcs import cards_of
    from skytrawl.images.quality import limit

    shape = done.planes.image.shape
    place = place_of(wcs, shape)
    njy = float(base.row.get("njy_per_unit") or math.nan)
    arrays = {**done.planes._asdict(), "n_used": done.n_used, "n_rejected": done.n_rejected}
    row = {
        # Image units are those of `base`, which need not be the first input.
        "zero_point": float(base.row.get("zero_point", math.nan)),
        "njy_per_unit": njy,
        "gain": math.nan,
        "ra": place.ra,
        "dec": place.dec,
        "healpix": place.healpix,
        "width": shape[1],
        "height": shape[0],
        "pixel_scale": place.pixel_scale,
        "corners": place.corners.ravel(),
        "cover": place.cover.astype(np.int64),
        "n_inputs": len(ids),
        "input_mjd": np.array([r["mjd"] for r in rows], float),
        "input_weight": weights,
        "exptime": float(sum(r["exptime"] for r in rows)),
        "noise_correlation": done.noise_correlation,
        "depth": limit(done.depth / 5.0, njy),
        "n_rejected": int(np.asarray(done.n_rejected, np.int64).sum()),
    }
    attrs = {"cards": cards_of(wcs, shape), "inputs": ids, "notes": notes, "base": base.id}
    frame = measure_frame(Frame(unit.id, arrays, attrs, row, {}))
    if not frame.row["n_stars"]:
        raise ImageError(f"the coadd of {len(ids)} exposures: {frame.attrs['notes'][-1]}")
    return frame


def memory(unit: Unit, parameters: Parameters, prepared: Prepared) -> int:
    """Bytes: ten a pixel of every exposure, the stack of a stripe, one exposure being read, the coadd."""
    one = unit.pixels // len(unit.inputs)
    return 10 * unit.pixels + (256 << 20) + 160 * one


JOB = FrameJob(
    name="reference",
    summary="coadd the exposures of each field and band into references for difference images",
    parameters=Parameters,
    over=("exposures",),
    gives="references",
    units=units,
    make=make,
    memory=memory,
    planes=3,
    kernel_version=f"{versions.RESAMPLE}.{versions.MEASURE}",
    keeps=("field", "band", "survey", "zero_point", "njy_per_unit", "healpix"),
)
