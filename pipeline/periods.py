"""Job periods: the period of every object, so that periodic objects can be told from anomalies."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl import period_search as search
from skytrawl.catalogs.schema import Variable
from skytrawl.errors import BackendUnavailableError, ParameterError
from skytrawl.job import Arrays, Job, Prepared
from skytrawl.params import option
from skytrawl.period_search import DataSet
from skytrawl.scan_common import curves_of, photometry, rows_needed, rows_of_objects
from skytrawl.scan_params import RowParameters

if TYPE_CHECKING:
    from skytrawl.catalogs.archive import Archive, Block

METHODS = ("ls", "bls")
# Why an object has no period, by code.
REASONS = (
    "period found",
    "too few rows in every band",
    "constant brightness in every band",
    "time span shorter than the shortest period",
    "more than max_grid periods to try",
    "no periodic part",
)
FOUND, FEW, CONSTANT, SHORT, LARGE, NOTHING = range(len(REASONS))
# Cycles a day at which ground-based sampling repeats itself: solar and sidereal days.
DAYS = (1.0, 1.00273790935)


@dataclass(frozen=True, kw_only=True)
class Parameters(RowParameters):
    """Parameters of periods. Total magnitudes are searched as they are, difference magnitudes as fluxes."""

    method: str = option(
        "ls", "Lomb-Scargle with floating means (ls), or box least squares for eclipses (bls)", "", METHODS
    )
    min_frequency: float = option(
        0.01, "lowest frequency; a period longer than the time span is never tried", "1/d"
    )
    max_frequency: float | None = option(None, "highest frequency; none = 10 for ls, 2 for bls", "1/d")
    oversampling: float | None = option(
        None,
        "grid points per 1 / time span (ls), or until the shortest box has drifted by its duration over the "
        "time span (bls); none = 3 for ls, 2 for bls",
    )
    n_terms: int = option(3, "harmonics of the Fourier series of each band (ls)")
    durations: tuple[float, ...] = option((0.1, 0.2, 0.4), "durations of the box (bls)", "d")
    min_points: int = option(10, "bands with fewer rows are left out")
    max_grid: int = option(3_000_000, "objects that need more grid points get no period")
    harmonic_tolerance: float = option(
        0.1,
        "a multiple of the best frequency is taken where the chi-square that stays is larger by this part at "
        "most: a series fits subharmonics too (ls)",
    )
    alias_tolerance: float = option(
        0.5,
        "the alias flag is set where a one-day alias leaves a chi-square that is larger by this part at most",
    )
    n_peaks: int = option(20, "peaks of the grid that are fitted exactly (ls)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in METHODS:
            raise ParameterError(f"method is {self.method!r}: choose one of {', '.join(METHODS)}")
        if not 0 < self.min_frequency < self.highest < np.inf:
            raise ParameterError("frequencies must be positive, min_frequency below max_frequency")
        if not self.fineness > 0 or not self.harmonic_tolerance >= 0 or not self.alias_tolerance >= 0:
            raise ParameterError("oversampling must be positive, the tolerances must not be negative")
        if self.n_terms < 1 or self.n_peaks < 2 or self.max_grid < 2 or self.min_points < 4:
            raise ParameterError("n_terms must be 1, n_peaks and max_grid 2, min_points 4 at least")
        if not self.durations or not all(0 < x < np.inf for x in self.durations):
            raise ParameterError("durations must be positive numbers of days")
        if self.method == "bls" and max(self.durations) * self.highest >= 1:
            raise ParameterError(
                f"a box of {max(self.durations)} d is no shorter than the period at max_frequency="
                f"{self.highest}: shorten durations or lower max_frequency"
            )

    @property
    def highest(self) -> float:
        """Highest frequency, 1/d."""
        default = 10.0 if self.method == "ls" else 2.0
        return default if self.max_frequency is None else self.max_frequency

    @property
    def fineness(self) -> float:
        """Oversampling."""
        default = 3.0 if self.method == "ls" else 2.0
        return default if self.oversampling is None else self.oversampling

    @property
    def least_rows(self) -> int:
        """Distinct times that a band needs: more than the model has parameters."""
        return max(self.min_points, 2 * self.n_terms + 2 if self.method == "ls" else 4)


@dataclass(frozen=True)
class Row:
    """Results of one object; `amplitude` is by band code."""

    flag: int
    period: float = np.nan
    power: float = np.nan
    period_second: float = np.nan
    power_second: float = np.nan
    false_alarm: float = np.nan
    alias: int = 0
    amplitude: dict[int, float] = dataclasses.field(default_factory=dict)
    duration: float = np.nan
    epoch: float = np.nan


def prepare(parameters: Parameters, archive: Archive) -> Prepared:
    """Pin bands and quantity; refuse to start without nifty-ls."""
    if parameters.method == "ls":
        try:
            import nifty_ls  # noqa: F401
        except ImportError as error:
            raise BackendUnavailableError(
                "Lomb-Scargle needs nifty-ls: pip install 'skytrawl[periods]', or choose method=bls"
            ) from error
    system = photometry(parameters, archive)
    kept = system.magnitudes and archive.attrs["light_curves"]["photometry"] == "total"
    system = dataclasses.replace(system, magnitudes=system.magnitudes and not kept)
    labels = [archive.bands[code] for code in system.codes]
    unit = "mag" if kept else (str(archive.attrs["light_curves"]["units"]) if not system.magnitudes else "")
    return Prepared({"system": system, "labels": labels, "unit": unit, "dips": -1.0 if kept else 1.0})


def gives(parameters: Parameters, prepared: Prepared) -> tuple[Variable, ...]:
    """Variables of the results."""
    unit = prepared.payload["unit"]
    part = "part of the chi-square about the weighted means that the model removes"
    reasons = "; ".join(f"{code} {text}" for code, text in enumerate(REASONS))
    ls = parameters.method == "ls"
    size = "half of peak to peak of the Fourier series" if ls else "depth of the box"
    common = (
        Variable("period", ("object",), "float64", "d", "best period"),
        Variable("power", ("object",), "float64", "", part, direction="high"),
        Variable("period_second", ("object",), "float64", "d", "second best period, no multiple of the best"),
        Variable("power_second", ("object",), "float64", "", "power of the second best period"),
        Variable("amplitude", ("object", "band"), "float64", unit, size),
        Variable(
            "alias",
            ("object",),
            "uint8",
            "",
            "one-day alias",
            comment="bit 1: a frequency one solar or sidereal cycle a day away is almost as good, see "
            "alias_tolerance; bit 2: the frequency is a whole number of cycles a day, within 1 / time span",
        ),
        Variable("n_used", ("object",), "int64", "", "rows that were used"),
        Variable(
            "flag", ("object",), "uint8", "", "whether there is a period, else why not", comment=reasons
        ),
    )
    if ls:
        comment = "Baluev 2008; defined for one harmonic in one band, NaN else"
        name = "probability that white noise has so high a peak"
        return (*common, Variable("false_alarm", ("object",), "float64", "", name, comment=comment))
    return (
        *common,
        Variable("duration", ("object",), "float64", "d", "duration of the box of the band that gains most"),
        Variable(
            "epoch", ("object",), "float64", "d", "middle of a dip", comment="in the time of the archive"
        ),
    )


def coords(parameters: Parameters, prepared: Prepared) -> dict[str, list[Any]]:
    """Names of the bands."""
    return {"band": list(prepared.payload["labels"])}


def block(block: Block, parameters: Parameters, prepared: Prepared, backend: str) -> Arrays:
    """Search the objects of a block one by one."""
    system = prepared.payload["system"]
    curves, _, _ = curves_of(block, parameters, system)
    found, used = [], np.zeros(block.n_objects, np.int64)
    for k, n_rows in enumerate(rows_of_objects(curves)):
        sets = range(int(curves.sets[k]), int(curves.sets[k + 1]))
        start = float(curves.time[curves.rows[sets]].min()) if n_rows else 0.0
        data: dict[int, DataSet] = {}
        for d in sets:
            rows = slice(int(curves.rows[d]), int(curves.rows[d + 1]))
            time = curves.time[rows] - start
            if len(np.unique(time)) >= parameters.least_rows:
                value = curves.flux[rows]
                if parameters.method == "bls":
                    value = prepared.payload["dips"] * value
                data[int(curves.label[d])] = search.data_set(time, value, curves.error[rows])
        used[k] = sum(len(each.time) for each in data.values())
        row = search_object(data, parameters)
        found.append(dataclasses.replace(row, epoch=row.epoch + start))
    amplitude = np.full((block.n_objects, len(system.codes)), np.nan)
    for k, row in enumerate(found):
        for code, size in row.amplitude.items():
            amplitude[k, system.codes.index(code)] = size
    result: Arrays = {"amplitude": amplitude, "n_used": used}
    for variable in gives(parameters, prepared):
        if variable.name not in result:
            result[variable.name] = np.array([getattr(row, variable.name) for row in found], variable.dtype)
    return result


def search_object(data: dict[int, DataSet], parameters: Parameters) -> Row:
    """Search the bands of one object: a period, or the reason why there is none."""
    if not data:
        return Row(FEW)
    data = {code: each for code, each in data.items() if 0 < each.chi2 < np.inf}
    if not data:
        return Row(CONSTANT)
    sets = list(data.values())
    span = max(each.time[-1] for each in sets) - min(each.time[0] for each in sets)
    lowest = max(parameters.min_frequency, 1 / span)
    if lowest >= parameters.highest:
        return Row(SHORT)
    find = _series if parameters.method == "ls" else _boxes
    row = find(sets, parameters, span, lowest)
    amplitudes = [row.amplitude.get(i, np.nan) for i in range(len(sets))]
    return dataclasses.replace(row, amplitude=dict(zip(data, amplitudes, strict=True)))


def _series(sets: Sequence[DataSet], parameters: Parameters, span: float, lowest: float) -> Row:
    """Lomb-Scargle on a grid, exact fits of its peaks, and of the multiples of the best."""
    step, n_terms = 1 / (parameters.fineness * span), parameters.n_terms
    count = (parameters.highest - lowest) / step + 1
    if count > parameters.max_grid:
        return Row(LARGE)
    grid = lowest + step * np.arange(int(count))
    power = search.lomb_scargle(sets, lowest, step, len(grid), n_terms)
    peaks = search.highest(power, grid, 1 / span, parameters.n_peaks)
    if not len(peaks.frequency):
        return Row(NOTHING)
    peaks = search.refine(sets, peaks.frequency, step, n_terms)
    best = int(peaks.power.argmax())
    frequency, top = float(peaks.frequency[best]), float(peaks.power[best])
    multiples = frequency * np.arange(2, n_terms + 1)
    for one, gain in zip(
        *search.refine(sets, multiples[multiples <= parameters.highest], step, n_terms), strict=True
    ):
        if 1 - gain <= (1 - top) * (1 + parameters.harmonic_tolerance):
            frequency, power_here = float(one), float(gain)
            break
    else:
        power_here = top
    second = _second(peaks, frequency, 1 / span, n_terms)
    aliases = search.refine(sets, _aliases(frequency, lowest, parameters.highest), step, n_terms)
    alone = len(sets) == 1 and n_terms == 1
    return Row(
        FOUND,
        1 / frequency,
        power_here,
        *second,
        search.false_alarm(sets[0], power_here, parameters.highest) if alone else np.nan,
        _alias_bits(frequency, power_here, aliases.power, span, parameters),
        {i: search.amplitude(each, frequency, n_terms) for i, each in enumerate(sets)},
    )


def _boxes(sets: Sequence[DataSet], parameters: Parameters, span: float, lowest: float) -> Row:
    """Box least squares on a grid of equal ratios of periods: a box drifts equally far everywhere."""
    step = min(parameters.durations) / (parameters.fineness * span)
    count = np.log(parameters.highest / lowest) / step + 1
    if count > parameters.max_grid:
        return Row(LARGE)
    grid = parameters.highest * np.exp(-step * np.arange(int(count)))
    found = search.boxes(sets, 1 / grid, parameters.durations)
    peaks = search.highest(found.power, grid, 1 / span, parameters.n_peaks)
    if not len(peaks.frequency):
        return Row(NOTHING)
    frequency, power = float(peaks.frequency[0]), float(peaks.power[0])
    place = int(np.argmin(np.abs(grid - frequency)))
    away = np.abs(grid[:, None] - _aliases(frequency, lowest, parameters.highest)).argmin(axis=0)
    near = [found.power[max(i - 2, 0) : i + 3].max() for i in away]
    return Row(
        FOUND,
        1 / frequency,
        power,
        *_second(peaks, frequency, 1 / span, 3),
        np.nan,
        _alias_bits(frequency, power, np.array(near), span, parameters),
        {i: float(depth) for i, depth in enumerate(found.depth[:, place])},
        float(found.duration[place]),
        float(found.middle[place]),
    )


def _second(peaks: search.Peaks, frequency: float, width: float, orders: int) -> tuple[float, float]:
    """Best other peak, as period and power: neither the frequency nor its multiples and fractions."""
    ratios = np.array([k / j for k in range(1, orders + 1) for j in range(1, orders + 1)])
    related = np.abs(peaks.frequency[:, None] - frequency * ratios) < width
    others = np.flatnonzero(~related.any(axis=1))
    if not len(others):
        return np.nan, np.nan
    best = others[peaks.power[others].argmax()]
    return 1 / float(peaks.frequency[best]), float(peaks.power[best])


def _aliases(frequency: float, lowest: float, highest: float) -> np.ndarray:
    """Frequencies one solar or sidereal cycle a day away, inside the range."""
    found = np.array([abs(frequency + sign * day) for day in DAYS for sign in (-1, 1)])
    return found[(found >= lowest) & (found <= highest)]


def _alias_bits(
    frequency: float, power: float, aliases: np.ndarray, span: float, parameters: Parameters
) -> int:
    whole = any(abs(frequency - max(round(frequency / day), 1) * day) < 1 / span for day in DAYS)
    close = 1 - aliases <= (1 - power) * (1 + parameters.alias_tolerance)
    return int(bool(close.any())) + 2 * int(whole)


def memory(n_objects: int, n_observations: int, parameters: Parameters, prepared: Prepared) -> int:
    """Bytes of work space: the rows, a grid of the largest size and the slab of nifty-ls."""
    per_point = 40 if parameters.method == "ls" else 40 + 120 * len(prepared.payload["labels"])
    slab = search.SLAB * 16 * (6 * parameters.n_terms + 8)
    return 120 * n_observations + per_point * parameters.max_grid + slab + 20_000_000


JOB = Job(
    name="periods",
    summary="find the period of every object",
    parameters=Parameters,
    needs=rows_needed,
    gives=gives,
    prepare=prepare,
    block=block,
    memory=memory,
    coords=coords,
)
