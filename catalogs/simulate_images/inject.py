"""Sources put into real or simulated frames, with the frame's own PSF, gain and zero point."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skytrawl.catalogs.simulate_images.sky import TYPE, Columns
from skytrawl.errors import ParameterError
from skytrawl.kernels import flags
from skytrawl.kernels.render import stamps as drawing

# Distance of the points of a trail, in FWHM.
_TRAIL = 0.25
# Pixels that hold no measurement to which light could be added.
_LOST = flags.SATURATED | flags.BLEED | flags.BAD | flags.NO_DATA
_PIXELS = 200_000  # that tell the gain
_BATCH = 256  # sources drawn at a time


class Psf(Protocol):
    """What a PSF must be able to do: a `PsfModel` or anything like it."""

    def at(self, x: Any, y: Any, *, dx: Any, dy: Any) -> NDArray[np.float32]:
        """Stamps at (x, y) of stars that sit (dx, dy) from the centre of the middle pixel."""

    def fwhm(self, x: Any, y: Any) -> NDArray[np.float64]:
        """Widths, pixels."""


def inject(
    arrays: Mapping[str, np.ndarray],
    psf: Psf,
    sources: Mapping[str, Any],
    seed: int | np.random.SeedSequence,
    *,
    gain: float | None = None,
    njy_per_unit: float = 1.0,
    saturation: float = np.inf,
    mjd: float = np.nan,
    noise: bool = True,
) -> tuple[dict[str, np.ndarray], Columns]:
    """Add sources to a frame.

    Parameters
    ----------
    arrays : mapping of arrays of shape (ny, nx)
        ``image`` (image units), ``variance`` (their square; NaN where unknown), ``mask`` (uint16, bits of
        `skytrawl.kernels.flags`). They are not changed.
    psf : PsfModel
        Of this frame.
    sources : mapping of arrays of shape (n,)
        ``x``, ``y`` (pixels, 0-based, in the middle of the exposure) and ``flux`` (nJy; negative takes light
        away). Extended sources have ``half_light`` (pixels, semi-major axis; 0 is a point), ``axis_ratio``,
        ``angle`` (degrees from x to y), ``index`` (Sersic, from 0.5, which is a Gaussian). Moving ones have
        ``dx``, ``dy``, their way during the exposure in pixels. ``id``, ``type``, ``ra``, ``dec``,
        ``quiescent`` go into the truth as they are.
    seed : int or numpy.random.SeedSequence
        Of the photon noise.
    gain : float, optional
        Electrons per image unit; if left out, it is taken from how the variance grows with the image.
    njy_per_unit : float
        nJy of one image unit.
    saturation : float
        Image units from which pixels are clipped and flagged.
    mjd : float
        Middle of the exposure, for the truth.
    noise : bool
        Whether the light comes with Poisson noise of its own.

    Returns
    -------
    arrays : dict
        Copies with the sources.
    truth : dict of arrays of shape (n,)
        Columns of `truth.TRUTH` without ``exposure``. ``snr`` holds all noise of the frame; of an extended or
        moving source it is that of its own profile, of which PSF photometry sees ``psf_share``.
        ``confidence`` is the share of the weight on usable pixels: 0 for a source outside the frame.

    Raises
    ------
    ParameterError
        If a column is missing or holds what cannot be drawn, or the gain is unknown.
    """
    given = _columns(sources)
    image = np.array(arrays["image"])
    variance, mask = np.array(arrays["variance"], np.float32), np.array(arrays["mask"])
    if gain is None or not gain > 0:
        if gain is not None and not np.isnan(gain):
            raise ParameterError(f"gain={gain} must be positive, in electrons per image unit")
        gain = gain_of(image, variance, mask) if noise else np.inf
    if not (np.isfinite(njy_per_unit) and njy_per_unit > 0):
        raise ParameterError(
            f"njy_per_unit={njy_per_unit}: the frame has no zero point; give fluxes in image units and "
            "njy_per_unit=1"
        )
    units = given["flux"] / njy_per_unit
    before = np.where(np.isfinite(variance), variance, np.nanmedian(variance)).astype(np.float32)
    bad = (mask & flags.UNUSABLE) != 0
    planes = [np.zeros(image.shape, np.float64) for _ in range(2 if (units < 0).any() else 1)]
    snr, share, seen = np.zeros(len(units)), np.zeros(len(units)), np.ones(len(units))
    for first in range(0, len(units), _BATCH):
        rows = np.arange(first, min(first + _BATCH, len(units)))
        part = {name: values[rows] for name, values in given.items()}
        for group, profile in _profiles(psf, part):
            x, y, flux = part["x"][group], part["y"][group], units[rows[group]]
            for sign, plane in zip((1.0, -1.0), planes, strict=False):
                drawing.add(plane, profile, x, y, np.maximum(sign * flux, 0.0))
            found = drawing.weigh(before, bad, profile, x, y, flux, 1.0 / gain)
            snr[rows[group]], share[rows[group]] = found
            seen[rows[group]] = _seen(psf, part, group, profile)
    _expose(image, variance, mask, planes, np.random.default_rng(seed), gain, noise)
    full = (image >= saturation) & ((mask & flags.NO_DATA) == 0)
    image[full], mask[full] = saturation, mask[full] | flags.SATURATED
    truth = {name: given[name] for name in ("id", "type", "ra", "dec", "x", "y")}
    truth |= {"mjd": np.full(len(units), mjd), "flux": given["flux"], "flux_image": units}
    truth |= {"quiescent": given["quiescent"], "snr": snr, "confidence": share, "psf_share": seen}
    return {**arrays, "image": image, "variance": variance, "mask": mask}, truth


def gain_of(image: np.ndarray, variance: np.ndarray, mask: np.ndarray) -> float:
    """Electrons per image unit, from the slope of the variance against the image.

    Raises
    ------
    ParameterError
        If the variance does not grow with the image, so that it says nothing of photons.
    """
    good = ((mask & flags.UNUSABLE) == 0) & np.isfinite(image) & np.isfinite(variance) & (variance > 0)
    values, noise = image[good].astype(np.float64), variance[good].astype(np.float64)
    step = max(1, len(values) // _PIXELS)
    bright = np.argsort(values[::step])[-max(16, len(values) // step // 50) :]
    x, y = values[::step][bright], noise[::step][bright]
    x0, y0 = np.median(values), np.median(noise)
    slope = float(np.median((y - y0) / np.maximum(x - x0, 1e-30))) if len(x) else 0.0
    # Photons of a source raise the variance at least by a percent of the sky's where it stands out.
    if not slope * (np.median(x) - x0) > 0.01 * y0:
        raise ParameterError(
            "the gain of the frame is unknown and its variance does not tell: give gain=, electrons per unit"
        )
    return 1.0 / slope


def flux_at_snr(
    arrays: Mapping[str, np.ndarray],
    psf: Psf,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    snr: NDArray[np.float64],
    gain: float,
    njy_per_unit: float = 1.0,
) -> NDArray[np.float64]:
    """Fluxes (nJy) of point sources that optimal PSF photometry on this frame measures at a given SNR.

    Parameters
    ----------
    arrays, psf, gain, njy_per_unit
        As for `inject`.
    x, y, snr : float64 array of shape (n,)
    """
    variance = np.asarray(arrays["variance"], np.float32)
    variance = np.where(np.isfinite(variance), variance, np.nanmedian(variance)).astype(np.float32)
    bad = np.zeros(variance.shape, bool)
    profiles = _points(psf, x, y)
    flux = snr / np.maximum(drawing.weigh(variance, bad, profiles, x, y, np.ones(len(x)))[0], 1e-30)
    for _ in range(20):
        got, _ = drawing.weigh(variance, bad, profiles, x, y, flux, 1.0 / gain)
        flux = flux * np.where(got != 0, snr / np.where(got != 0, got, 1.0), 1.0)
    return np.asarray(flux * njy_per_unit)


def _columns(sources: Mapping[str, Any]) -> Columns:
    missing = [name for name in ("x", "y", "flux") if name not in sources]
    if missing:
        raise ParameterError(f"sources lack {', '.join(missing)}: give x, y [pixels] and flux [nJy]")
    count = len(np.atleast_1d(sources["x"]))
    empty: dict[str, Any] = {
        "half_light": 0.0, "axis_ratio": 1.0, "angle": 0.0, "index": 1.0, "dx": 0.0, "dy": 0.0,
        "ra": np.nan, "dec": np.nan, "quiescent": 0.0,
    }  # fmt: skip
    given = {
        name: np.broadcast_to(np.asarray(sources.get(name, value), np.float64), count).copy()
        for name, value in {"x": None, "y": None, "flux": None, **empty}.items()
    }
    for name in ("x", "y", "flux", "half_light", "axis_ratio", "angle", "index", "dx", "dy"):
        if not np.isfinite(given[name]).all():
            raise ParameterError(
                f"sources: {name} of row {int(np.argmin(np.isfinite(given[name])))} is no number"
            )
    for name, least, most in (("half_light", 0, 1e3), ("axis_ratio", 0.01, 1), ("index", 0.5, 6)):
        wrong = (given[name] < least) | (given[name] > most)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ParameterError(
                f"sources: {name} of row {row} is {given[name][row]:g}: take {least} to {most}"
            )
    given["id"] = np.asarray(sources.get("id", np.arange(count)), np.int64)
    moving, extended = np.hypot(given["dx"], given["dy"]) > 0, given["half_light"] > 0
    kinds = np.where(moving, b"moving", np.where(extended, b"extended", b"point"))
    given["type"] = np.asarray(sources.get("type", kinds)).astype(TYPE)
    return given


def _points(psf: Psf, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float32]:
    """Stamps of the PSF where sources lie on the pixels."""
    return psf.at(x, y, dx=x - np.rint(x), dy=y - np.rint(y))


def _profiles(psf: Psf, part: Columns) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and their stamps of light 1, grouped by the size of the stamps."""
    moving = np.hypot(part["dx"], part["dy"]) > 0
    extended = part["half_light"] > 0
    groups = []
    plain = np.flatnonzero(~moving & ~extended)
    if len(plain):
        groups.append((plain, _points(psf, part["x"][plain], part["y"][plain])))
    for row in np.flatnonzero(moving | extended):
        x, y = part["x"][row], part["y"][row]
        way = (float(part["dx"][row]), float(part["dy"][row]))
        stamps = _trail(psf, x, y, way) if moving[row] else _points(psf, np.array([x]), np.array([y]))
        if extended[row]:
            angle = np.radians(part["angle"][row])
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            axes = turn * part["half_light"][row] * np.array([1.0, part["axis_ratio"][row]])
            whole = axes @ axes.T
            shape = np.array([[whole[0, 0], whole[0, 1], whole[1, 1]]])
            stamps = drawing.blurred(stamps, shape, part["index"][row : row + 1])
        groups.append((np.array([row]), stamps))
    return groups


def _seen(psf: Psf, part: Columns, group: np.ndarray, profile: np.ndarray) -> np.ndarray:
    """Share of the light that photometry with the PSF sees on empty sky: sum P S / sum P^2."""
    if not (part["half_light"][group].any() or part["dx"][group].any() or part["dy"][group].any()):
        return np.ones(len(group))
    point = _points(psf, part["x"][group], part["y"][group])
    top, left = ((big - small) // 2 for big, small in zip(profile.shape[1:], point.shape[1:], strict=True))
    inner = profile[:, top : top + point.shape[1], left : left + point.shape[2]]
    return np.asarray((point * inner).sum(axis=(1, 2)) / np.square(point).sum(axis=(1, 2)), np.float64)


def _trail(psf: Psf, x: float, y: float, way: tuple[float, float]) -> NDArray[np.float32]:
    """One stamp with the light of a source along its way, relative to the pixel that holds its middle."""
    length, width = float(np.hypot(*way)), float(psf.fwhm(x, y))
    points = 1 + int(np.ceil(length / (_TRAIL * width)))
    along = (np.arange(points) + 0.5) / points - 0.5
    u, v = x + along * way[0], y + along * way[1]
    pieces = _points(psf, u, v)
    pad = int(np.ceil(0.5 * max(abs(way[0]), abs(way[1])))) + 1
    whole = np.zeros((pieces.shape[1] + 2 * pad, pieces.shape[2] + 2 * pad))
    origin_x, origin_y = np.rint(x) - whole.shape[1] // 2, np.rint(y) - whole.shape[0] // 2
    drawing.add(whole, pieces, u - origin_x, v - origin_y, np.full(points, 1.0 / points))
    return whole.astype(np.float32)[None]


def _expose(
    image: np.ndarray,
    variance: np.ndarray,
    mask: np.ndarray,
    planes: list[np.ndarray],
    generator: np.random.Generator,
    gain: float,
    noise: bool,
) -> None:
    """Add light with its photon noise, in place; the second plane takes light away."""
    for sign, plane in zip((1.0, -1.0), planes, strict=False):
        # The spline of a PSF can dip below zero in its wings by less than matters.
        lit = (plane > 0) & ((mask & _LOST) == 0) & np.isfinite(image)
        expected = plane[lit]
        seen = generator.poisson(expected * gain) / gain if noise else expected
        image[lit] += (sign * seen).astype(image.dtype)
        if noise:
            variance[lit] += (expected / gain).astype(np.float32)
