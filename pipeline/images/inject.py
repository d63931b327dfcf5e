"""Job inject: sources of known place, time and flux put into exposures, to judge what is found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.errors import ImageError, ParameterError
from skytrawl.frames.job import FrameJob, Unit
from skytrawl.images.pairing import content
from skytrawl.job import Prepared
from skytrawl.kernels import versions
from skytrawl.params import content_fingerprint, option

if TYPE_CHECKING:
    from skytrawl.catalogs.images.frame import Frame
    from skytrawl.catalogs.images.store import FrameStore
    from skytrawl.catalogs.simulate_images import InjectionPlan

KINDS = ("point", "extended", "moving", "variable", "nova", "supernova")
# Of the arrays that hold the truth of a frame.
PREFIX = "truth_"
# Pixels that measure the flux of a Gaussian PSF, in FWHM^2: 4 pi / (8 ln 2).
_NOISE_AREA = 4 * math.pi / (8 * math.log(2))


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters of inject."""

    seed: int = option(0, "the same seed gives the same sources and the same photons")
    point: int = option(200, "point sources of constant flux, on all exposures together")
    extended: int = option(0, "galaxies")
    moving: int = option(0, "asteroids, each with a way of its own")
    variable: int = option(0, "variable stars: sine waves, RR Lyrae, eclipses, flares")
    nova: int = option(0, "novae")
    supernova: int = option(100, "supernovae")
    snr: tuple[float, float] = option(
        (3.0, 50.0), "least and largest signal-to-noise on the median exposure, even in its logarithm"
    )
    magnitudes: tuple[float, float] | None = option(
        None, "brightest and faintest AB magnitude, in place of snr; of transients at maximum", "mag"
    )
    edge: float = option(32.0, "least distance to the edges of the exposure that a source is drawn for", "px")
    first: float = option(float("-inf"), "exposures before this get no light: for clean references", "d")
    last: float = option(float("inf"), "exposures after this get none", "d")
    gain: float = option(0.0, "electrons an image unit, for exposures that do not tell; 0: none is known")
    truth_format: str = option("parquet", "of the truth table", "", ("parquet", "csv"))

    def __post_init__(self) -> None:
        if self.seed < 0 or any(getattr(self, kind) < 0 for kind in KINDS):
            raise ParameterError("seed and the numbers of sources must not be negative")
        if not any(getattr(self, kind) for kind in KINDS):
            raise ParameterError(f"nothing to inject: give a number of {', '.join(KINDS)}")
        if len(self.snr) != 2 or not 0 < self.snr[0] <= self.snr[1]:
            raise ParameterError(f"snr={self.snr}: give the least and the largest, positive")
        if self.magnitudes is not None and not self.magnitudes[0] <= self.magnitudes[1]:
            raise ParameterError(f"magnitudes={self.magnitudes}: give the brightest first")
        if self.edge < 0 or self.gain < 0 or not self.first <= self.last:
            raise ParameterError("edge and gain must not be negative, last not before first")


def prepare(parameters: Parameters, store: FrameStore) -> Prepared:
    """Draw the objects, once for all exposures.

    Raises
    ------
    ParameterError
        If no exposure can take them: none has a position, a zero point and a PSF, or lies in time.
    """
    from skytrawl.catalogs.simulate_images.truth import write_truth

    write_truth(None, store.path, parameters.truth_format, {})
    table = store.table
    rows = _takers(table, parameters)
    if not len(rows):
        raise ParameterError(
            f"{store.path} has no exposure to inject into: they need positions, zero points, measured stars "
            f"and an MJD from {parameters.first:g} to {parameters.last:g}"
        )
    plan = draw(table, rows, parameters)
    # Other exposures in the store are other sources: those of an earlier run are no part of them.
    return Prepared({"plan": plan}, {"objects": content_fingerprint(plan.objects)})


def _takers(table: dict[str, np.ndarray], parameters: Parameters) -> np.ndarray:
    """Rows of exposures of which everything is known and on which something may shine."""
    mjd = table["mjd"]
    good = (mjd >= parameters.first) & (mjd <= parameters.last)
    for name in ("njy_per_unit", "sky_sigma", "fwhm", "pixel_scale"):
        good &= table[name] > 0
    if "n_stars" in table:
        good &= table["n_stars"] > 0
    return np.flatnonzero(good & np.isfinite(table["ra"]))


def draw(table: dict[str, np.ndarray], rows: np.ndarray, parameters: Parameters) -> InjectionPlan:
    """The plan: what is injected into exposures of these rows of the table.

    Parameters
    ----------
    table : dict of array
        Of a store of exposures.
    rows : int64 array
    parameters : Parameters
    """
    from dataclasses import replace

    from skytrawl.catalogs.simulate_images import InjectionPlan
    from skytrawl.catalogs.simulate_images.light import variable_classes

    corners = np.stack([inner_corners(table, int(row), parameters.edge) for row in rows])
    counts = {kind: getattr(parameters, kind) for kind in KINDS if kind != "variable"}
    classes = variable_classes(np.random.default_rng((parameters.seed, 1)), parameters.variable)
    for name in sorted(set(classes)):
        counts[name] = classes.count(name)
    counts = {kind: count for kind, count in counts.items() if count}
    magnitudes = parameters.magnitudes
    if magnitudes is None:
        noise = np.median(_point_error(table, rows))
        bright, faint = (31.4 - 2.5 * math.log10(snr * noise) for snr in reversed(parameters.snr))
        magnitudes = (bright, faint)
    plan = InjectionPlan.random(parameters.seed, counts, table["mjd"][rows], corners, magnitudes)
    return replace(plan, first=parameters.first, last=parameters.last)


def _point_error(table: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Error of the PSF flux of a faint star on exposures, nJy, for a Gaussian PSF."""
    area = np.sqrt(_NOISE_AREA) * table["fwhm"][rows]
    return np.asarray(table["sky_sigma"][rows] * area * table["njy_per_unit"][rows])


def inner_corners(table: dict[str, np.ndarray], row: int, edge: float) -> np.ndarray:
    """Corners of an exposure without a margin of `edge` pixels: float64[4, 2], degrees.

    Raises
    ------
    ParameterError
        If nothing is left.
    """
    start, stop = table["corners_offsets"][row : row + 2]
    corners = table["corners"][start:stop].reshape(4, 2).copy()
    shares = [edge / float(table[name][row]) for name in ("width", "height")]
    if max(shares) >= 0.5:
        raise ParameterError(f"edge={edge:g} leaves nothing of {table['id'][row].decode()}: take less")
    # Right ascensions across 0 belong together.
    corners[:, 0] = corners[0, 0] + (corners[:, 0] - corners[0, 0] + 180.0) % 360.0 - 180.0
    u = np.array([0.0, 1.0, 1.0, 0.0]) * (1 - 2 * shares[0]) + shares[0]
    v = np.array([0.0, 0.0, 1.0, 1.0]) * (1 - 2 * shares[1]) + shares[1]
    weights = np.stack([(1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v], axis=1)
    return np.asarray(weights @ corners)


def units(parameters: Parameters, prepared: Prepared, store: FrameStore) -> list[Unit]:
    """One unit an exposure; those that get nothing are handed on, so that references can be made of them."""
    table = store.table
    pixels = table["width"] * table["height"]
    return [
        Unit(name.decode(), (name.decode(),), content([held.decode()]), int(n))
        for name, held, n in zip(table["id"], table["content"], pixels, strict=True)
    ]


def make(store: FrameStore, unit: Unit, parameters: Parameters, prepared: Prepared, backend: str) -> Frame:
    """The exposure with its sources.

    Stars, PSF and sky stay as they were measured. An exposure that cannot take sources is handed on as it
    is, without truth, and a note says why.
    """
    from skytrawl.catalogs.images.frame import Frame

    frame = store.read(unit.id)
    try:
        frame, truth = put_in(frame, parameters, prepared.payload["plan"])
    except (ImageError, ParameterError) as error:
        notes = [*frame.attrs.get("notes", []), f"nothing injected: {error}"]
        return Frame(
            frame.id,
            frame.arrays,
            {**frame.attrs, "notes": notes},
            {**frame.row, "n_injected": 0},
            frame.dims,
        )
    del truth["exposure"]
    arrays = {**frame.arrays, **{PREFIX + name: values for name, values in truth.items()}}
    dims = {**frame.dims, **{PREFIX + name: ("source",) for name in truth}}
    lit = int((truth["flux"] != 0).sum())
    return Frame(frame.id, arrays, frame.attrs, {**frame.row, "n_injected": lit}, dims)


def put_in(frame: Frame, parameters: Parameters, plan: InjectionPlan) -> tuple[Frame, Any]:
    """Inject a plan into a frame with its own PSF; the truth of what lies on the frame.

    Raises
    ------
    ImageError, ParameterError
        If the frame has no PSF, WCS, zero point or gain.
    """
    from dataclasses import replace

    from skytrawl.catalogs.images.measured import exposure_of
    from skytrawl.catalogs.simulate_images import inject_frame

    exposure = exposure_of(frame)
    known = "variance" in frame.arrays
    image = frame.arrays["image"]
    given = {**frame.arrays, "image": image if image.dtype.kind == "f" else image.astype(np.float32)}
    if not known:
        given["variance"] = exposure.planes.variance
    gain = float(frame.row.get("gain") or math.nan)
    if not gain > 0:
        gain = parameters.gain or math.nan
    done, truth = inject_frame(replace(frame, arrays=given), plan, exposure.psf, gain=gain)
    if not known:
        # What was not there is not made up: readers take the sky's noise and the photons of the image.
        del done.arrays["variance"]
    ny, nx = image.shape
    x, y = truth["x"], truth["y"]
    inside = (x >= -0.5) & (x < nx - 0.5) & (y >= -0.5) & (y < ny - 0.5)
    return done, {name: values[inside] for name, values in truth.items()}


def close(out: FrameStore, parameters: Parameters, prepared: Prepared, store: FrameStore) -> None:
    """Write the truth of all frames, and the objects, as tables beside the run.

    Raises
    ------
    ImageError
        If no exposure took anything.
    """
    from skytrawl.catalogs.simulate_images.truth import write_truth

    if not out.ids:  # every frame failed, which the run tells
        return
    parts, why = [], []
    for name in out.ids:
        record = out.record(name)
        held = [array for array in record["arrays"] if array.startswith(PREFIX)]
        if not held:
            why += [note for note in record["attrs"].get("notes", []) if note.startswith("nothing injected")]
            continue
        found = {array.removeprefix(PREFIX): v for array, v in out.read(name, held).arrays.items()}
        parts.append({**found, "exposure": np.full(len(found["id"]), name.encode())})
    if not any(len(part["id"]) for part in parts):
        raise ImageError(f"{out.path} got no source: {'; '.join(sorted(set(why))[:3]) or 'none lies on it'}")
    truth = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    tables = {"truth": truth, "sources": prepared.payload["plan"].objects}
    write_truth(tables, out.path, parameters.truth_format, {"speed_ra": "arcsec/h", "speed_dec": "arcsec/h"})


def memory(unit: Unit, parameters: Parameters, prepared: Prepared) -> int:
    """Bytes: the frame, what is derived of it, two planes of light in double precision, and the copies."""
    return 90 * unit.pixels


JOB = FrameJob(
    name="inject",
    summary="put sources of known place, time and flux into exposures, with their truth",
    parameters=Parameters,
    over=("exposures",),
    gives="exposures",
    units=units,
    make=make,
    memory=memory,
    prepare=prepare,
    close=close,
    planes=3,
    kernel_version=versions.RENDER,
)
