"""Job forced-photometry: PSF fluxes at given positions on every difference image, detected or not.

The fluxes become light curves in an archive of their own, which the jobs over light curves take as any other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.errors import ImageError, ParameterError
from skytrawl.frames.job import FrameJob, Unit
from skytrawl.images.detect import units
from skytrawl.images.difference import KEPT
from skytrawl.job import Prepared
from skytrawl.kernels import versions
from skytrawl.params import option

if TYPE_CHECKING:
    from skytrawl.catalogs.images.frame import Frame
    from skytrawl.catalogs.images.store import FrameStore

_ARRAYS = ("flux", "flux_error", "mask", "reference", "reference_psf_basis", "reference_psf_frame")


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters of forced-photometry."""

    positions: Path = field(
        metadata={
            "help": "table with ra, dec [deg] and perhaps object (CSV, Parquet, ...), or a run of detect"
        }
    )
    light_curves: Path = field(metadata={"help": "archive of light curves to make, or to append to"})
    photometry: str = option(
        "difference",
        "difference: signed, about the reference; total: the flux of the reference is added",
        "",
        ("difference", "total"),
    )
    poor: bool = option(False, "measure on difference images with the verdict poor as well")


def prepare(parameters: Parameters, store: FrameStore) -> Prepared:
    """Read the positions."""
    from skytrawl.catalogs.images.positions import read_positions

    names, ra, dec = read_positions(parameters.positions)
    if not len(names):
        raise ParameterError(f"{parameters.positions} holds no position")
    payload = {"names": names, "ra": ra, "dec": dec}
    from skytrawl.params import content_fingerprint

    # Where the light curves go does not change a number.
    return Prepared(payload, {"positions": content_fingerprint(payload), "light_curves": "archive"})


def make(store: FrameStore, unit: Unit, parameters: Parameters, prepared: Prepared, backend: str) -> Frame:
    """Fluxes at the positions that lie on one difference image.

    Raises
    ------
    ImageError
        If the difference image cannot be used, or no zero point makes its fluxes comparable.
    """
    from skytrawl.catalogs.images.exposure import wcs_arrays, wcs_of_frame
    from skytrawl.catalogs.images.frame import Frame
    from skytrawl.catalogs.images.wcs import sky_to_pixel
    from skytrawl.kernels import flags
    from skytrawl.kernels.detect.forced import forced, psf_flux
    from skytrawl.kernels.psf import PsfModel

    record = store.record(unit.id)
    row = record["row"]
    if row["verdict"] == "refused" or (row["verdict"] == "poor" and not parameters.poor):
        raise ImageError(f"the difference image is {row['verdict']}: {row['reason']}")
    njy = float(row.get("njy_per_unit") or np.nan)
    if not np.isfinite(njy):
        raise ImageError("no zero point: give the exposures one at ingest to get light curves in nJy")
    frame = store.read(unit.id, [*_ARRAYS, *wcs_arrays(record["attrs"])])
    planes = frame.arrays
    shape = planes["flux"].shape
    wcs = wcs_of_frame(frame)
    near = _near(prepared.payload, row, shape)
    x, y = sky_to_pixel(wcs, prepared.payload["ra"][near], prepared.payload["dec"][near])
    inside = (x >= -0.5) & (x <= shape[1] - 0.5) & (y >= -0.5) & (y <= shape[0] - 0.5)
    x, y, number = x[inside], y[inside], near[inside]
    found = forced(planes["flux"], planes["flux_error"], planes["mask"], x, y)
    model = PsfModel.from_arrays({name: planes[f"reference_psf_{name}"] for name in ("basis", "frame")})
    bad = ~np.isfinite(planes["reference"]) | ((planes["mask"] & flags.UNUSABLE) != 0)
    flux = np.asarray(found["flux"], np.float64)
    beneath = psf_flux(planes["reference"], bad, model, x, y)
    # What makes the fluxes of constant stars scatter beyond their noise does so to any source, with all its
    # light; an error of the scale leaves as much of what lies beneath.
    scatter = row["scale_scatter"] * (flux + beneath)
    left = row["scale_error"] / row["scale"] * beneath
    columns = {
        "position": number,
        "x": x,
        "y": y,
        "flux": flux * njy,
        "flux_error": np.sqrt(found["flux_error"] ** 2 + scatter**2 + left**2) * njy,
        "reference_flux": beneath * njy,
        "flags": np.asarray(found["flags"]),
    }
    # Where the light beneath is unknown, so is the error.
    columns["usable"] = (
        np.isfinite(columns["flux"])
        & (columns["flux_error"] > 0)
        & ((columns["flags"] & flags.UNUSABLE) == 0)
    )
    dims: dict[str, tuple[str, ...]] = dict.fromkeys(columns, ("position",))
    counts = {"n_positions": len(x), "n_usable": int(columns["usable"].sum())}
    return Frame(unit.id, columns, {}, counts, dims)


def _near(payload: dict[str, Any], row: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """Positions that may lie on an image: within its diagonal of its centre."""
    from skytrawl.catalogs.images.wcs_sky import vectors

    centre = vectors(np.array([row["ra"]]), np.array([row["dec"]]))[0]
    points = vectors(payload["ra"], payload["dec"])
    reach = np.radians(np.hypot(shape[0], shape[1]) * row["pixel_scale"] / 3600)
    return np.flatnonzero(points @ centre >= np.cos(min(reach, np.pi)))


def close(out: FrameStore, parameters: Parameters, prepared: Prepared, store: FrameStore) -> None:
    """Write the light curves of all positions into their archive."""
    from skytrawl.images.light_curves import write_light_curves

    write_light_curves(out, parameters.light_curves, prepared.payload, parameters.photometry)


def memory(unit: Unit, parameters: Parameters, prepared: Prepared) -> int:
    """Bytes: four planes, and a table of the positions."""
    return 30 * unit.pixels + 100 * len(prepared.payload["ra"])


JOB = FrameJob(
    name="forced-photometry",
    summary="PSF fluxes at given positions on all difference images, as an archive of light curves",
    parameters=Parameters,
    over=("differences",),
    gives="forced photometry",
    units=units,
    make=make,
    memory=memory,
    prepare=prepare,
    close=close,
    planes=0,
    kernel_version=versions.DETECT,
    keeps=KEPT,
)
