"""Job detect: candidates on both sides of zero in difference images, with cutouts, linked on the sky."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.errors import ImageError, ParameterError
from skytrawl.frames.job import FrameJob, Unit
from skytrawl.images.difference import KEPT
from skytrawl.job import Prepared
from skytrawl.kernels import versions
from skytrawl.params import option

if TYPE_CHECKING:
    from skytrawl.catalogs.images.frame import Frame
    from skytrawl.catalogs.images.store import FrameStore

_PLANES = ("difference", "scorr", "flux", "flux_error", "reference", "mask")


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters of detect."""

    threshold: float = option(5.0, "least |S_corr| of a pixel of a candidate", "sigma")
    min_snr: float = option(0.0, "least |flux| over its error")
    min_pixels: int = option(1, "least pixels beyond the threshold", "pixel")
    max_size: float = option(float("inf"), "largest width of these pixels", "pixel")
    saddle: float = option(3.0, "depth of the saddle at which two peaks are two candidates", "sigma")
    dipoles: bool = option(False, "keep candidates that are one half of a dipole")
    poor: bool = option(False, "look at difference images with the verdict poor as well")
    cutout: int = option(63, "side of the cutouts; 0 makes none", "pixel")
    radius: float = option(1.0, "detections nearer than this to each other are of one object", "arcsec")
    exposures: Path | None = field(
        default=None,
        metadata={"help": "store of the exposures; by default where the run of difference found it"},
    )

    def __post_init__(self) -> None:
        if not self.threshold > 0 or not self.radius > 0 or self.cutout < 0 or self.min_pixels < 1:
            raise ParameterError(
                "threshold and radius must be positive, cutout 0 at least, min_pixels 1 at least"
            )


def units(parameters: Parameters, prepared: Prepared, store: FrameStore) -> list[Unit]:
    """One unit a difference image."""
    table = store.table
    pixels = table["n_good"] + table["n_bad"] if "n_good" in table else np.zeros(len(table["id"]))
    return [
        Unit(name.decode(), (name.decode(),), content.decode(), int(np.nan_to_num(n)))
        for name, content, n in zip(table["id"], table["content"], pixels, strict=True)
    ]


def prepare(parameters: Parameters, store: FrameStore) -> Prepared:
    """Find the exposures that the difference images were made of."""
    from skytrawl.catalogs.images.current import open_frames

    path = parameters.exposures or Path(store.attrs["source"])
    exposures = open_frames(path, None if parameters.exposures else int(store.attrs["source_version"]))
    # The difference images name the contents they come from, so that the path does not matter.
    return Prepared({"exposures": str(exposures.path), "version": exposures.version}, {"exposures": "frames"})


def make(store: FrameStore, unit: Unit, parameters: Parameters, prepared: Prepared, backend: str) -> Frame:
    """Candidates of one difference image.

    Raises
    ------
    ImageError
        If the difference image was refused, or is poor and those are not wanted.
    """
    from skytrawl.catalogs.images.exposure import wcs_arrays, wcs_of_frame
    from skytrawl.catalogs.images.frame import Frame
    from skytrawl.catalogs.images.wcs import pixel_to_sky
    from skytrawl.catalogs.sky import healpix_of
    from skytrawl.kernels.detect import detect

    record = store.record(unit.id)
    row = record["row"]
    if row["verdict"] == "refused" or (row["verdict"] == "poor" and not parameters.poor):
        raise ImageError(f"the difference image is {row['verdict']}: {row['reason']}")
    frame = store.read(unit.id, [*_PLANES, *wcs_arrays(record["attrs"])])
    planes = frame.arrays
    xp, moved = _backend(backend, planes)
    columns = detect(
        moved["scorr"],
        moved["flux"],
        moved["flux_error"],
        moved["mask"],
        fwhm=float(frame.row["fwhm"]),
        difference=moved["difference"],
        threshold=parameters.threshold,
        saddle=parameters.saddle,
        min_pixels=parameters.min_pixels,
        max_size=parameters.max_size if np.isfinite(parameters.max_size) else None,
        xp=xp,
    )
    columns = {name: _host(values) for name, values in columns.items()}
    wanted = np.abs(columns["snr"]) >= parameters.min_snr
    if not parameters.dipoles:
        wanted &= ~columns["is_dipole"]
    n_dipoles = int(columns["is_dipole"].sum())
    columns = {name: values[wanted] for name, values in columns.items()}
    wcs = wcs_of_frame(frame)
    columns["ra"], columns["dec"] = pixel_to_sky(wcs, columns["x"], columns["y"])
    columns["healpix"] = healpix_of(columns["ra"], columns["dec"])
    unit_njy = float(frame.row.get("njy_per_unit") or np.nan)
    columns["flux_njy"] = columns["flux"] * unit_njy
    columns["flux_njy_error"] = columns["flux_error"] * unit_njy
    dims: dict[str, tuple[str, ...]] = dict.fromkeys(columns, ("candidate",))
    n = len(columns["x"])
    if parameters.cutout and n:
        columns |= _cutouts(planes, frame, columns, parameters.cutout, prepared)
        dims |= {
            "cutouts": ("candidate", "plane", "cut_y", "cut_x"),
            "cutout_mask": dims["x"] + ("cut_y", "cut_x"),
        }
    positive = int((columns["sign"] > 0).sum())
    return Frame(
        unit.id,
        columns,
        {"difference": str(store.path), "planes": ["science", "reference", "difference"]},
        {
            "n_candidates": n,
            "n_positive": positive,
            "n_negative": n - positive,
            "n_dipoles": n_dipoles,
        },
        dims,
    )


def _cutouts(
    planes: dict[str, np.ndarray], frame: Any, columns: dict[str, np.ndarray], size: int, prepared: Prepared
) -> dict[str, np.ndarray]:
    """Stamps of exposure, reference and difference in one unit: nJy where the zero point is known."""
    from skytrawl.catalogs.images.cutouts import cutouts
    from skytrawl.catalogs.images.measured import read_exposure
    from skytrawl.catalogs.images.store import FrameStore

    store = FrameStore.cached(prepared.payload["exposures"], prepared.payload["version"])
    science = read_exposure(store, frame.id)
    factor = float(frame.row.get("njy_per_unit") or np.nan)
    factor = factor if np.isfinite(factor) else 1.0
    cut = cutouts(
        {
            "science": science.planes.image,
            "reference": planes["reference"],
            "difference": planes["difference"],
        },
        columns["x"],
        columns["y"],
        size=size,
        mask=planes["mask"],
        factors=[factor] * 3,
    )
    return {"cutouts": cut.images, "cutout_mask": cut.mask}


def _backend(backend: str, planes: dict[str, np.ndarray]) -> tuple[Any, dict[str, Any]]:
    """Array namespace and planes on its device; NumPy's own are worked on by Numba."""
    if backend != "cuda":
        return None, planes
    from skytrawl.kernels.namespace import device_namespace

    xp = device_namespace()
    return xp, {name: xp.asarray(values) for name, values in planes.items()}


def _host(values: Any) -> np.ndarray:
    return np.asarray(values.get() if hasattr(values, "get") else values)


def close(out: FrameStore, parameters: Parameters, prepared: Prepared, store: FrameStore) -> None:
    """Link the candidates of all frames and write the catalogue."""
    from skytrawl.catalogs.images.candidates import gather, write_catalogue

    write_catalogue(out, gather(out, parameters.radius))


def memory(unit: Unit, parameters: Parameters, prepared: Prepared) -> int:
    """Bytes: the planes as stored and decoded, the exposure with its own planes."""
    return 80 * unit.pixels


JOB = FrameJob(
    name="detect",
    summary="candidates in difference images, with cutouts, linked across exposures",
    parameters=Parameters,
    over=("differences",),
    gives="candidates",
    units=units,
    make=make,
    memory=memory,
    prepare=prepare,
    close=close,
    planes=0,
    keeps=KEPT,
    backends=("cpu", "cuda"),
    kernel_version=versions.DETECT,
)
