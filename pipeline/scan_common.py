"""What the lens and scan jobs share: the rows of an archive as fluxes of data sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skytrawl.errors import ParameterError
from skytrawl.kernels.curves import Curves, Dropped, prepare
from skytrawl.scan_params import RowParameters

if TYPE_CHECKING:
    from skytrawl.catalogs.archive import Archive, Block


@dataclass(frozen=True)
class Photometry:
    """How the values of an archive become fluxes, pinned before the first task.

    Attributes
    ----------
    magnitudes : bool
    zero_point : float, mag
    codes : tuple of int, band codes that are used
    """

    magnitudes: bool
    zero_point: float
    codes: tuple[int, ...]


def rows_needed(parameters: RowParameters, archive: Archive) -> tuple[str, ...]:
    """Variables of the archive that `curves_of` reads.

    Raises
    ------
    ParameterError
        For a mask of quality bits where the archive has none.
    """
    names = ["time", "value", "error", "band"]
    names += [name for name in ("upper_limit", "sign") if f"lightcurves/{name}" in archive.variables]
    if parameters.quality_mask:
        if "lightcurves/quality" not in archive.variables:
            raise ParameterError(f"{archive.path} has no quality bits: leave out quality_mask")
        names.append("quality")
    return tuple(f"lightcurves/{name}" for name in names)


def photometry(parameters: RowParameters, archive: Archive) -> Photometry:
    """Pin bands and flux system.

    Raises
    ------
    ParameterError
        For a band that the archive does not have.
    """
    unknown = [band for band in parameters.bands if band not in archive.bands]
    if unknown:
        raise ParameterError(
            f"{archive.path} has no band {', '.join(unknown)}: it has {', '.join(archive.bands)}"
        )
    chosen = parameters.bands or archive.bands
    magnitudes = archive.attrs["light_curves"]["quantity"] == "magnitude"
    codes = tuple(code for code, band in enumerate(archive.bands) if band in chosen)
    return Photometry(magnitudes, parameters.zero_point, codes)


def flux_of_magnitudes(
    value: np.ndarray, error: np.ndarray, zero_point: float, sign: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Fluxes and errors of magnitudes: F = s 10**(-0.4 (m - zero_point)), dF = F dm ln(10) / 2.5.

    Parameters
    ----------
    value, error : float array of shape (n,), mag
    zero_point : float, mag; its magnitude has flux 1
    sign : int array of shape (n,), optional
        Sign of each subtraction; 0 (unknown) counts as positive.

    Returns
    -------
    flux, error : float64 array of shape (n,)
    """
    flux = np.power(10.0, -0.4 * (np.asarray(value, np.float64) - zero_point))
    spread = flux * np.asarray(error, np.float64) * (np.log(10.0) / 2.5)
    return (flux if sign is None else np.where(np.asarray(sign) < 0, -flux, flux)), spread


def curves_of(
    block: Block, parameters: RowParameters, system: Photometry
) -> tuple[Curves, Dropped, np.ndarray]:
    """Light curves of a block as fluxes, one data set a band.

    Returns
    -------
    Curves
        Without upper limits, rows of other bands, rows with masked quality bits and unusable rows.
    Dropped
        Rows without finite values or with an error <= 0, of each object.
    n_cut : int64 array of shape (n_objects,)
        Upper limits, masked rows and rows of other bands.
    """
    columns = block.observations
    flux, error = columns["value"], columns["error"]
    if system.magnitudes:
        with np.errstate(over="ignore"):
            flux, error = flux_of_magnitudes(flux, error, system.zero_point, columns.get("sign"))
    keep = np.isin(columns["band"], system.codes)
    if "upper_limit" in columns:
        keep &= ~columns["upper_limit"].astype(bool)
    if parameters.quality_mask:
        keep &= (columns["quality"] & np.uint32(parameters.quality_mask)) == 0
    owner = np.repeat(np.arange(block.n_objects), np.diff(block.offsets))
    n_cut = np.bincount(owner[~keep], minlength=block.n_objects).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner[keep], minlength=block.n_objects))])
    curves, dropped = prepare(
        columns["time"][keep], flux[keep], error[keep], columns["band"][keep], offsets.astype(np.int64)
    )
    return curves._replace(source=np.flatnonzero(keep)[curves.source]), dropped, n_cut


def rows_of_objects(curves: Curves) -> np.ndarray:
    """Number of usable rows of each object: int64 array of shape (n_objects,)."""
    return np.diff(curves.rows[curves.sets])


def by_band(values: np.ndarray, curves: Curves, codes: tuple[int, ...]) -> np.ndarray:
    """Values of data sets as float64 array of shape (n_objects, n_bands), NaN where there is none."""
    table = np.full((curves.n_objects, len(codes)), np.nan)
    owner = np.repeat(np.arange(curves.n_objects), np.diff(curves.sets))
    table[owner, np.searchsorted(codes, curves.label)] = values
    return table
