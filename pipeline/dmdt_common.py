"""What the dm-dt jobs share: quality cuts, magnitudes from an archive, keys in band codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from skytrawl.catalogs.band_keys import BandPair, parse_keys
from skytrawl.errors import ParameterError, SchemaError
from skytrawl.kernels.dmdt import LightCurves, Selection, select
from skytrawl.params import option

if TYPE_CHECKING:
    from skytrawl.catalogs.archive import Archive, Block

Keys = str | Sequence[str | Sequence[str]]
# AB magnitude zero points of flux units: m = zero point - 2.5 log10(flux).
AB_ZERO_POINTS = {"nJy": 31.4, "uJy": 23.9, "mJy": 16.4, "Jy": 8.9}
PRESETS: dict[str, dict[str, Any]] = {
    "none": {},
    # The original's cuts; that it also pairs negative subtractions has to be asked for with sign="any".
    "soraisam2020": {"mag_max": 22.0, "error_max": 0.2, "detections_only": True, "min_rows": 2},
}


@dataclass(frozen=True)
class Cuts:
    """Which observations are paired. A value given here wins over that of the preset."""

    preset: str = option(
        "none", "named set of cuts; soraisam2020 has those of the original", "", tuple(PRESETS)
    )
    mag_max: float | None = option(None, "keep only observations brighter than this", "mag")
    error_max: float | None = option(None, "keep only errors below this (drops NaN errors)", "mag")
    rb_min: float | None = option(
        None,
        "least real-bogus score, the column rb of the archive (drops NaN scores); for another score, such as "
        "ZTF's drb, ingest that one as rb",
    )
    sign: str = option(
        "positive",
        "sign of the subtraction: positive drops the negative ones, which are no brightness; any pairs them "
        "by their magnitude, as the original does",
        "",
        ("positive", "any"),
    )
    detections_only: bool = option(True, "drop upper limits")
    min_rows: int = option(2, "least number of detections of an object, before the other cuts")

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ParameterError(f"preset {self.preset!r} is unknown: choose one of {', '.join(PRESETS)}")
        if self.sign not in ("positive", "any"):
            raise ParameterError(f"sign is {self.sign!r}: choose positive or any")
        if self.min_rows < 0:
            raise ParameterError("min_rows must not be negative")

    def resolved(self) -> dict[str, Any]:
        """The cuts with the preset filled in, as references and results record them."""
        own = {name: getattr(self, name) for name in CUT_NAMES}
        preset = PRESETS[self.preset]
        return {name: preset.get(name) if own[name] is None else own[name] for name in CUT_NAMES}


CUT_NAMES = ("mag_max", "error_max", "rb_min", "sign", "detections_only", "min_rows")


class Usable(NamedTuple):
    """Light curves in magnitudes after the cuts.

    Attributes
    ----------
    lightcurves : LightCurves
    rows : int64[n_kept], row of each kept observation in the block
    n_used, n_negative, n_dropped : int64[n_objects]
        Observations kept, dropped for a negative subtraction, and dropped by all other cuts.
    """

    lightcurves: LightCurves
    rows: np.ndarray
    n_used: np.ndarray
    n_negative: np.ndarray
    n_dropped: np.ndarray


def needs(cuts: Cuts, archive: Archive) -> tuple[str, ...]:
    """Variables of the archive that the cuts and the kernels read.

    Raises
    ------
    ParameterError
        If a cut needs a variable that the archive does not have.
    """
    names = ["time", "value", "error", "band"]
    if "lightcurves/upper_limit" in archive.variables:
        names.append("upper_limit")
    if "lightcurves/sign" in archive.variables:
        names.append("sign")
    if cuts.resolved()["rb_min"] is not None:
        if "lightcurves/rb" not in archive.variables:
            raise ParameterError(f"rb_min needs real-bogus scores, and {archive.path} has none: leave it out")
        names.append("rb")
    return tuple(f"lightcurves/{name}" for name in names)


def magnitude_system(archive: Archive) -> dict[str, Any]:
    """How values become magnitudes: {"flux_zero_point": None for magnitudes, else mag}.

    Raises
    ------
    SchemaError
        For fluxes that have no magnitude: difference fluxes, and fluxes without a known zero point.
    """
    facts = archive.attrs["light_curves"]
    if facts["quantity"] == "magnitude":
        return {"flux_zero_point": None}
    if facts["photometry"] != "total":
        raise SchemaError(
            f"{archive.path} holds {facts['photometry']} fluxes, which have no magnitude: "
            "add the flux of the template before ingest and declare photometry='total'"
        )
    zero_point = facts.get("zero_point")
    if zero_point is None:
        zero_point = AB_ZERO_POINTS.get(str(facts["units"]))
    if zero_point is None:
        raise SchemaError(
            f"{archive.path} holds fluxes in {facts['units']!r} without zero point: "
            f"ingest with zero_point=... or a unit of {', '.join(AB_ZERO_POINTS)}"
        )
    return {"flux_zero_point": float(zero_point)}


def usable(block: Block, cuts: Cuts, flux_zero_point: float | None, *, with_error: bool = False) -> Usable:
    """Apply the cuts to the light curves of a block.

    Parameters
    ----------
    block : Block
        With time, value, error, band and, where the archive has them, upper_limit, sign and rb.
    cuts : Cuts
    flux_zero_point : float or None
        Zero point by which total fluxes become magnitudes; fluxes <= 0 are dropped.
    with_error : bool
        Drop observations without a finite error >= 0, which cannot be smeared.
    """
    chosen = cuts.resolved()
    columns = block.observations
    value, error = columns["value"], columns["error"]
    if flux_zero_point is not None:
        flux = np.where(value > 0, value, np.nan).astype(np.float64)
        value, error = flux_zero_point - 2.5 * np.log10(flux), np.abs(2.5 / np.log(10) * error / flux)
    owner = np.repeat(np.arange(block.n_objects), np.diff(block.offsets))

    def per_object(mask: np.ndarray) -> np.ndarray:
        return np.bincount(owner[mask], minlength=block.n_objects).astype(np.int64)

    keep = np.isfinite(value) & np.isfinite(columns["time"])
    if chosen["detections_only"] and "upper_limit" in columns:
        keep &= ~columns["upper_limit"].astype(bool)
    negative = np.zeros(len(keep), bool)
    if chosen["sign"] == "positive" and "sign" in columns:
        negative = keep & (columns["sign"] < 0)
        keep &= ~negative
    keep &= (per_object(keep) >= chosen["min_rows"])[owner]
    # Not >=: a NaN passes no cut.
    if chosen["mag_max"] is not None:
        keep &= value < chosen["mag_max"]
    if chosen["error_max"] is not None:
        keep &= error < chosen["error_max"]
    if with_error:
        keep &= np.isfinite(error) & (error >= 0)
    if chosen["rb_min"] is not None:
        keep &= columns["rb"] >= chosen["rb_min"]
    kept: Selection = select(LightCurves(columns["time"], value, error, columns["band"], block.offsets), keep)
    used = np.diff(kept.lightcurves.offsets)
    n_negative = per_object(negative)
    return Usable(kept.lightcurves, kept.rows, used, n_negative, np.diff(block.offsets) - used - n_negative)


def key_codes(pairs: Sequence[BandPair], bands: Sequence[str]) -> list[tuple[int, int]]:
    """Band pairs as codes of the archive."""
    return [(bands.index(a), bands.index(b)) for a, b in pairs]


def keys_of(keys: Keys, archive: Archive) -> tuple[BandPair, ...]:
    """The keys that were asked for, by default every band and every ordered pair of bands of the archive."""
    return parse_keys(keys, archive.bands)


def survey_name(archive: Archive) -> str:
    """Name of the archive's survey."""
    survey: Any = archive.attrs.get("survey", {})
    return str(survey.get("name", "unknown") if isinstance(survey, Mapping) else survey)


def photometry_of(archive: Archive) -> dict[str, Any]:
    """What the values of the archive are, as references record it; values are paired as magnitudes."""
    return {"survey": survey_name(archive), "quantity": "magnitude", "units": "mag"} | {
        "photometry": archive.attrs["light_curves"]["photometry"]
    }
