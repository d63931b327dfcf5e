"""The fitter kinds under one roof: point lens by the batched kernel, all others through VBMicrolensing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from skytrawl.errors import ParameterError
from skytrawl.kernels import lens
from skytrawl.kernels.curves import Curves
from skytrawl.scan_params import FITTERS, FitParameters

if TYPE_CHECKING:
    from skytrawl.catalogs.archive import Archive, Block
    from skytrawl.kernels.lens.vbm_scene import Parallax

MJD_ZERO = 2400000.5


@dataclass(frozen=True)
class Sky:
    """Where objects stand and what their times are, for models with parallax.

    Attributes
    ----------
    ra, dec : float64 array of shape (n_objects,), deg, ICRS
    scale, reference_position : str
        Of the times, which are modified Julian dates.
    satellite : Ephemeris or mapping of band codes to Ephemeris, optional
    """

    ra: np.ndarray
    dec: np.ndarray
    scale: str
    reference_position: str
    satellite: Any = None


def parameter_names(fitter_kind: str) -> tuple[str, ...]:
    """Names of the parameters of a fitter kind, the first three t0, tE, u0."""
    if fitter_kind == "pspl":
        return ("t0", "tE", "u0")
    from skytrawl.kernels.lens.vbm_model import kind_of

    return kind_of(fitter_kind).names


def is_parallax(lens_model: str) -> bool:
    """Whether a lens model needs positions and full dates."""
    return "parallax" in lens_model


def positions_needed(parameters: FitParameters, archive: Archive) -> tuple[str, ...]:
    """Variables of the archive that a fit with parallax reads beside the rows.

    Raises
    ------
    ParameterError
        For a kind with parallax where the archive has no positions and none is given.
    """
    if not is_parallax(parameters.lens_model):
        return ()
    if parameters.ra_deg is None and not archive.attrs["has_positions"]:
        raise ParameterError(f"{archive.path} has no positions: give ra_deg and dec_deg")
    return ("objects/ra", "objects/dec")


def sky_payload(parameters: FitParameters, archive: Archive) -> dict[str, Any]:
    """What `sky_of` needs of the archive, pinned before the first task; only for parallax."""
    if not is_parallax(parameters.lens_model):
        return {}
    clock = archive.attrs["light_curves"]["time"]
    return {
        "scale": clock["scale"],
        "reference_position": clock["reference_position"],
        "satellite": satellite_of(parameters, archive),
    }


def sky_inputs(parameters: FitParameters) -> dict[str, str]:
    """Fingerprint of the satellite's table, where one is used: another content is another run."""
    path = parameters.satellite_ephemeris_path
    if "space" not in parameters.lens_model or path is None:
        return {}
    return {"satellite_ephemeris_path": hashlib.sha256(path.read_bytes()).hexdigest()[:16]}


def require_start(parameters: FitParameters, bands: Sequence[str]) -> None:
    """Refuse starts as jacscanomaly finds them for several bands before anything runs: ParameterError."""
    if parameters.start != "auto" and parameters.lens_model in FITTERS and len(bands) > 1:
        raise ParameterError(
            f"start {parameters.start!r} is for one band, and there are {', '.join(bands)}: choose one with "
            "bands, or start 'auto'"
        )


def sky_of(block: Block, payload: dict[str, Any]) -> Sky | None:
    """Positions and kind of times of a block, for kinds with parallax."""
    if "scale" not in payload:
        return None
    ra, dec = block.objects["ra"], block.objects["dec"]
    return Sky(ra, dec, payload["scale"], payload["reference_position"], payload["satellite"])


def satellite_of(parameters: FitParameters, archive: Archive) -> Any:
    """The satellite's table, for the bands that were taken from it; None for kinds that have no satellite."""
    if "space" not in parameters.lens_model:
        return None
    from skytrawl.catalogs.ephemeris import read_satellite_table

    if parameters.satellite_ephemeris_path is None:
        raise ParameterError(
            f"fitter_kind {parameters.lens_model} needs satellite_ephemeris_path: a table of JD, RA, Dec and "
            "distance in AU"
        )
    center: Literal["earth", "sun"] = "sun" if parameters.convention == "gulls" else "earth"
    table = read_satellite_table(parameters.satellite_ephemeris_path, center)
    unknown = [band for band in parameters.satellite_bands if band not in archive.bands]
    if unknown:
        raise ParameterError(
            f"satellite_bands: {archive.path} has no band {', '.join(unknown)}: it has "
            f"{', '.join(archive.bands)}"
        )
    if not parameters.satellite_bands:
        return table
    return {archive.bands.index(band): table for band in parameters.satellite_bands}


def fit_lens(
    curves: Curves, parameters: FitParameters, sky: Sky | None = None
) -> tuple[lens.Fits, np.ndarray]:
    """Fit the lens model that the parameters name, and evaluate it.

    Parameters
    ----------
    curves : Curves
    parameters : FitParameters
    sky : Sky, optional
        Needed by kinds with parallax.

    Returns
    -------
    Fits
        t0 of kinds with parallax is BJD_TDB less 2400000.5.
    model : float64 array of shape (n_rows,)
        Flux of the model.

    Raises
    ------
    ParameterError
        For kinds with parallax: if scale or reference position of the times is unknown, or without positions.
    BackendUnavailableError
        For all kinds but pspl, without VBMicrolensing.
    """
    options = parameters.fit_options()
    if parameters.lens_model == "pspl":
        fits = lens.fit(curves, options=options)
        return fits, lens.model(curves, fits)
    from skytrawl.kernels.lens import vbm_fit

    kind = parameters.lens_model
    if not is_parallax(kind):
        fits = vbm_fit.fit(curves, options=options, kind=kind)
        return fits, vbm_fit.model(curves, fits, kind=kind)
    if sky is None:
        raise ParameterError(f"fitter_kind {kind} needs positions: give ra_deg and dec_deg")
    dated, parallax = _barycentric(curves, parameters, sky)
    fits = vbm_fit.fit(dated, options=options, kind=kind, parallax=parallax)
    model = vbm_fit.model(dated, fits, kind=kind, parallax=parallax)
    shifted = fits.params.copy()
    shifted[:, 0] -= MJD_ZERO
    return fits._replace(params=shifted), model


def _barycentric(curves: Curves, parameters: FitParameters, sky: Sky) -> tuple[Curves, Parallax]:
    """Light curves with times in BJD_TDB, and what a fit with parallax must know of them."""
    from skytrawl.catalogs.ephemeris import earth_ephemeris, to_bjd_tdb
    from skytrawl.kernels.lens.vbm_scene import Parallax

    ra = sky.ra if parameters.ra_deg is None else np.full(len(sky.ra), parameters.ra_deg)
    dec = sky.dec if parameters.dec_deg is None else np.full(len(sky.dec), parameters.dec_deg)
    owner = np.repeat(np.arange(curves.n_objects), np.diff(curves.rows[curves.sets]))
    time = to_bjd_tdb(
        curves.time, ra[owner], dec[owner], scale=sky.scale, reference_position=sky.reference_position
    )
    # Without a position a date stays as it was: the fit says so in its status.
    time = np.where(np.isfinite(time), time, curves.time + MJD_ZERO)
    ends = (float(time.min()), float(time.max())) if len(time) else (2_451_545.0, 2_451_545.0)
    return curves._replace(time=time), Parallax(
        earth_ephemeris(*ends),
        ra,
        dec,
        None if parameters.tref is None else parameters.tref + MJD_ZERO,
        sky.satellite,
        parameters.convention,
        parameters.parallax_use_HJD,
        parameters.max_piE,
    )
