"""Job difference: each exposure minus a reference of its field and band, and how significant the rest is."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from skytrawl.errors import ImageError, ParameterError
from skytrawl.frames.job import FrameJob, Unit
from skytrawl.images.pairing import pairs
from skytrawl.job import Prepared
from skytrawl.kernels import versions
from skytrawl.params import option

if TYPE_CHECKING:
    from skytrawl.catalogs.images.frame import Frame
    from skytrawl.catalogs.images.measured import Exposure
    from skytrawl.catalogs.images.store import FrameStore

MODES = ("zogy", "matching", "classic")
# What a difference image has from its exposure.
KEPT = (
    *("exposure", "detector", "field", "band", "survey", "mjd", "exptime", "zero_point", "njy_per_unit"),
    *("ra", "dec", "healpix", "width", "height", "pixel_scale", "corners", "cover"),
)


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters of difference."""

    reference: Path = field(metadata={"help": "references made by the job reference"})
    mode: str = option(
        "zogy",
        "zogy: proper subtraction with the measured PSFs; matching: a kernel solved on the stars; classic: "
        "scaled subtraction after matching the PSFs, the baseline",
        "",
        MODES,
    )
    window: float = option(0.0, "references with an exposure so near in time are not used", "d")
    tile: int = option(
        1024, "largest side of the tiles of zogy, borders included; less where the PSF varies", "pixel"
    )
    degree: int = option(1, "degree of the kernel's variation over the field (matching)")
    half_width: int = option(7, "half width of the kernel (matching)", "pixel")
    radius: float = option(
        3.0, "stars of exposure and reference are the same within so many pixels of the reference", "pixel"
    )
    most_masked: float = option(0.9, "exposures of which more is unusable are refused")
    step: float = option(
        0.0, "store planes as integers with a step of so many sigma; 0 loses nothing", "sigma"
    )

    def __post_init__(self) -> None:
        if self.window < 0 or self.step < 0 or not self.radius > 0 or not 0 < self.most_masked <= 1:
            raise ParameterError(
                "window and step must not be negative, radius must be positive, most_masked in (0, 1]"
            )
        if self.tile < 128 or self.half_width < 1 or not 0 <= self.degree <= 3:
            raise ParameterError("tile is 128 at least, half_width 1 at least, degree 0 to 3")


def prepare(parameters: Parameters, store: FrameStore) -> Prepared:
    """Pin the version of the references; each unit names the one it uses, by content."""
    from skytrawl.catalogs.images.current import open_frames

    references = open_frames(parameters.reference)
    if references.kind != "references":
        raise ParameterError(f"{parameters.reference} holds {references.kind}, not references")
    payload = {"references": str(references.path), "version": references.version}
    return Prepared(payload, {"reference": "frames"})


def units(parameters: Parameters, prepared: Prepared, store: FrameStore) -> list[Unit]:
    """One unit an exposure, with its reference."""
    return pairs(store, _references(prepared), parameters.window)


def make(store: FrameStore, unit: Unit, parameters: Parameters, prepared: Prepared, backend: str) -> Frame:
    """One difference image.

    Raises
    ------
    ImageError
        If the exposure has no PSF, no WCS or too few usable pixels, there is no reference for it, the two
        do not overlap, or too few stars are common to both.
    """
    from skytrawl.catalogs.images.frame import Frame
    from skytrawl.catalogs.images.measured import read_exposure
    from skytrawl.images.align import align
    from skytrawl.images.modes import subtract
    from skytrawl.images.quality import quality

    if not unit.extra:
        raise ImageError(
            "no reference: none of its band covers it and is free of exposures of its own days "
            f"(window {parameters.window:g} d)"
        )
    science = read_exposure(store, unit.id)
    masked = float(science.bad.mean())
    if masked > parameters.most_masked:
        raise ImageError(f"{100 * masked:.0f} % of the pixels are unusable")
    references = _references(prepared)
    reference = _reference(str(references.path), references.version, unit.extra)
    aligned = align(science, reference, radius=parameters.radius)
    done = subtract(science, aligned, parameters, backend)
    row = quality(science, aligned, done.planes, done.borders)
    psf = aligned.psf.to_arrays()
    arrays = {
        **done.planes,
        **science.wcs_tables,
        **{f"reference_psf_{name}": values for name, values in psf.items()},
    }
    attrs = {
        "cards": science.attrs["cards"],
        "wcs_tables": science.attrs.get("wcs_tables", []),
        "reference": unit.extra,
        "reference_store": str(references.path),
        "mode": parameters.mode,
        "unit": science.row.get("unit", ""),
        **done.attrs,
    }
    return Frame(unit.id, arrays, attrs, {"reference": unit.extra, "fwhm": done.fwhm, **row})


def quantise(parameters: Parameters) -> dict[str, float]:
    """Planes that are stored as integers."""
    names = ("difference", "scorr", "flux", "reference")
    return dict.fromkeys(names, parameters.step) if parameters.step else {}


def _references(prepared: Prepared) -> FrameStore:
    from skytrawl.catalogs.images.store import FrameStore

    return FrameStore.cached(prepared.payload["references"], prepared.payload["version"])


@lru_cache(maxsize=2)
def _reference(path: str, version: int, name: str) -> Exposure:
    """A reference, kept for the exposures of its field that follow."""
    from skytrawl.catalogs.images.measured import read_exposure
    from skytrawl.catalogs.images.store import FrameStore

    return read_exposure(FrameStore.cached(path, version), name)


def memory(unit: Unit, parameters: Parameters, prepared: Prepared) -> int:
    """Bytes: exposure, reference and what is made of them, and the two references that are kept."""
    return 200 * unit.pixels


JOB = FrameJob(
    name="difference",
    summary="subtract a reference from each exposure: difference, S_corr, PSF flux and its error",
    parameters=Parameters,
    over=("exposures",),
    gives="differences",
    units=units,
    make=make,
    memory=memory,
    prepare=prepare,
    quantise=quantise,
    planes=5,
    kernel_version=f"{versions.DIFFERENCE}.{versions.RESAMPLE}.{versions.MEASURE}",
    keeps=KEPT,
    backends=("cpu", "cuda"),
)
