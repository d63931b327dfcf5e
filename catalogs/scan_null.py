"""What the scans find where nothing is: maxima over the curves of a survey, as a model of false alarms.

The best bump and the best dip of a scan are each the largest of very many values that are neither independent
nor, in real photometry, free of correlated noise. The survey itself tells how they are distributed: nearly
every object is a curve without an anomaly. Two things keep the few others out. A bump is held against the
best *dips* of other objects (dips are as frequent as bumps in noise, and rare among anomalies), a dip against
the same, and the model is fitted below the top percent.

Of n such maxima Gumbel's law describes the upper part, ``P(S > s) = 1 - exp(-exp(-(s - mu) / beta))``, where
mu and beta depend on the curve (`FEATURES`): they come from its nearest neighbours in the sample.

The sample is that of the objects with the smallest hashes of their ids, so that it does not depend on how a
survey is cut or in which order parts are joined.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skytrawl.catalogs.references import write_whole
from skytrawl.catalogs.versions import content_hash
from skytrawl.errors import NotAnArchiveError, ReferenceMismatchError
from skytrawl.kernels.curves import Curves
from skytrawl.kernels.scan import gumbel
from skytrawl.kernels.scan.statistic import statistic
from skytrawl.kernels.scan.types import ScanResult

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "FEATURES",
    "SAMPLE",
    "Null",
    "build",
    "combined",
    "correlated",
    "features",
    "fingerprint",
    "join",
    "load",
    "require_same",
    "sample_of",
    "save",
    "statistic",
]

Floats = NDArray[np.float64]
Arrays = dict[str, np.ndarray]

FORMAT = 1
KIND = "scan-null"
#: What false alarms depend on; see `features`.
FEATURES = (
    "log_points",
    "log_filled",
    "log_sets",
    "scatter",
    "autocorrelation",
    "noise_short",
    "noise_middle",
)
#: Arrays of a sample, first dimension the object; ordered by hash.
SAMPLE = ("sample_hash", "sample_statistic", "sample_features")
# What a null and the scan that uses it must share.
_SAME = ("survey", "quantity", "photometry", "units", "bands", "scan")
_WORDS = {
    "sample_hash": (("object",), "hash of the id", "1"),
    "sample_statistic": (
        ("object", "side"),
        "dchi2 over the root of the noise, of the best bump and the best dip",
        "1",
    ),
    "sample_features": (("object", "feature"), "what false alarms depend on", "1"),
}
# Rows closer than this tell of correlated noise, days.
_CLOSE = 1.0
_FEWEST = 50
_NEIGHBOURS = 300
# Ranks of the neighbours between which the law is fitted.
_LOW, _HIGH = 0.7, 0.99


def features(residual: Curves, result: ScanResult) -> Floats:
    """What the distribution of false alarms depends on, from the curves as they were scanned.

    Parameters
    ----------
    residual : Curves
    result : ScanResult

    Returns
    -------
    float64[n_objects, 7], no unit
        In the order of `FEATURES`: ln of the numbers of rows, of filled grid points and of data sets (each
        plus 1); of residuals in units of their errors, cut at 3 robust standard deviations, ln of the root
        mean square (0 if that is 0) and the correlation of consecutive rows of a data set less than a day
        apart, drawn to 0 as by ten pairs without correlation; mean ln noise over the first and the second
        third of the time scales. The last third is left out: broad anomalies raise it.
    """
    n_rows = residual.rows[residual.sets[1:]] - residual.rows[residual.sets[:-1]]
    thirds = np.array_split(np.log(result.noise), 3, axis=1)[:2]
    return np.stack(
        [
            np.log1p(n_rows),
            np.log1p(result.n_filled),
            np.log1p(np.diff(residual.sets)),
            *correlated(residual),
            *(part.mean(axis=1) if part.shape[1] else np.zeros(len(part)) for part in thirds),
        ],
        axis=1,
    ).astype(np.float64)


def correlated(residual: Curves) -> tuple[Floats, Floats]:
    """Scatter and correlation of consecutive residuals, float64[n_objects] each; see `features`."""
    lengths = np.diff(residual.rows)
    z = residual.flux / residual.error
    owner = np.repeat(np.repeat(np.arange(residual.n_objects), np.diff(residual.sets)), lengths)
    scale = np.full(residual.n_objects, np.nan)
    bounds = residual.rows[residual.sets]
    for k in range(residual.n_objects):
        if bounds[k + 1] > bounds[k]:
            scale[k] = 1.4826 * np.median(np.abs(z[bounds[k] : bounds[k + 1]]))
    limit = 3 * scale[owner]
    z = np.clip(z, -limit, limit)
    pair = np.diff(residual.time) < _CLOSE
    pair[residual.rows[1:-1] - 1] = False

    def total(values: Floats, of: NDArray[np.int64]) -> Floats:
        return np.bincount(of, values, minlength=residual.n_objects).astype(np.float64)

    of = owner[1:][pair]
    product = total(z[1:][pair] * z[:-1][pair], of)
    count = total(np.ones(len(of)), of)
    mean_square = total(z * z, owner) / np.maximum(total(np.ones(len(z)), owner), 1)
    mean_square = np.where(mean_square > 0, mean_square, 1.0)
    return np.log(mean_square) / 2, product / mean_square / (count + 10.0)


def sample_of(hashes: NDArray[np.uint64], statistic: Floats, features: Floats, size: int) -> Arrays:
    """The part of a block in the sample: objects that could be scanned, smallest hashes first."""
    usable = np.isfinite(statistic).all(axis=1) & np.isfinite(features).all(axis=1)
    order = np.flatnonzero(usable)[np.argsort(hashes[usable], kind="stable")][:size]
    return dict(zip(SAMPLE, (hashes[order], statistic[order], features[order]), strict=True))


def join(left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray], size: int) -> Arrays:
    """Join the samples of two disjoint parts of a survey; any order and grouping gives the same."""
    both = [np.concatenate([left[name], right[name]]) for name in SAMPLE]
    order = np.argsort(both[0], kind="stable")[:size]
    return {name: array[order] for name, array in zip(SAMPLE, both, strict=True)}


def build(sample: Mapping[str, np.ndarray], attrs: Mapping[str, Any]) -> xr.Dataset:
    """Make the null of a sample.

    Parameters
    ----------
    sample : mapping
        Arrays `SAMPLE`: ``sample_hash`` uint64[n] ascending, ``sample_statistic`` float64[n, 2],
        ``sample_features`` float64[n, 7].
    attrs : mapping
        survey, quantity, photometry, units, bands and scan (parameters of the scan, a mapping), which are
        compared at use, and whatever tells of the origin (sources, sample_size): plain values.

    Raises
    ------
    ReferenceMismatchError
        With fewer than 50 objects, which tell nothing of chances.
    """
    import xarray as xr

    n = len(sample["sample_hash"])
    if n < _FEWEST:
        raise ReferenceMismatchError(
            f"a null needs {_FEWEST} objects that could be scanned, and there are {n}: take more of the "
            "survey, or use the null of a single curve"
        )
    arrays = {name: (_WORDS[name][0], np.asarray(sample[name]), _attrs(name)) for name in SAMPLE}
    data = xr.Dataset(arrays, coords={"side": ["bump", "dip"], "feature": list(FEATURES)})
    data.attrs["skytrawl"] = {"format": FORMAT, "kind": KIND, **json.loads(json.dumps(dict(attrs)))}
    return data


def _attrs(name: str) -> dict[str, str]:
    return dict(zip(("long_name", "units"), _WORDS[name][1:], strict=True))


def fingerprint(null: xr.Dataset) -> str:
    """Hash of the numbers of a null and of what they mean; not of when and where it was made."""
    facts = null.attrs["skytrawl"]
    meaning = json.dumps({"features": FEATURES, **{name: facts.get(name) for name in _SAME}}, sort_keys=True)
    arrays = {name: null[name].values for name in SAMPLE}
    return content_hash({**arrays, "meaning": np.frombuffer(meaning.encode(), np.uint8)})[:16]


def save(null: xr.Dataset, path: str | Path, replace: bool = False) -> None:
    """Write a null as a Zarr v3 folder, complete or not at all.

    Raises
    ------
    ReferenceExistsError
        If `path` exists and `replace` is false.
    """
    plain = null.drop_vars(["side", "feature"])
    plain.attrs["skytrawl"] = {**plain.attrs["skytrawl"], "fingerprint": fingerprint(null)}
    write_whole(plain, Path(path), replace)


def load(path: str | Path) -> xr.Dataset:
    """Read a null into memory and check it against its fingerprint.

    Raises
    ------
    NotAnArchiveError
        If there is no null, it was made by another version of the format, or its content is not what was
        saved.
    """
    import xarray as xr

    path = Path(path)
    try:
        facts = json.loads((path / "zarr.json").read_text())["attributes"]["skytrawl"]
        kind, version = facts["kind"], facts["format"]
    except FileNotFoundError as error:
        what = "does not exist" if not path.exists() else "is not a null of a scan"
        raise NotAnArchiveError(f"{path} {what}: make one with the job scan-null") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotAnArchiveError(f"{path} is not a null of a scan: its zarr.json names no kind") from error
    if kind != KIND or version != FORMAT:
        raise NotAnArchiveError(
            f"{path} is of kind {kind!r}, format {version!r}, not a null of a scan (format {FORMAT}): give "
            "the folder that scan-null wrote"
        )
    try:
        with xr.open_dataset(path, engine="zarr", consolidated=False) as opened:
            null = opened.load().assign_coords({"side": ["bump", "dip"], "feature": list(FEATURES)})
        sound = fingerprint(null) == facts.get("fingerprint")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise NotAnArchiveError(
            f"{path} is damaged ({error}): make it anew with the job scan-null"
        ) from error
    if not sound:
        raise NotAnArchiveError(
            f"{path} is damaged: its content does not match its fingerprint; make it anew"
        )
    return null


def require_same(null: xr.Dataset, facts: Mapping[str, Any], allow_mismatch: bool = False) -> list[str]:
    """Compare what a null was made from with the scan that is to use it.

    Parameters
    ----------
    null : xarray.Dataset
    facts : mapping
        survey, quantity, photometry, units, bands and scan, as `build` takes them.
    allow_mismatch : bool
        Only list the differences.

    Returns
    -------
    list of str
        The differences.

    Raises
    ------
    ReferenceMismatchError
        If there are some, and they are not allowed.
    """
    own, other = (
        _flat({name: json.loads(json.dumps(words.get(name))) for name in _SAME})
        for words in (null.attrs["skytrawl"], facts)
    )
    found = [
        f"{name} ({own.get(name)!r} in the null, {other.get(name)!r} here)"
        for name in sorted(own.keys() | other.keys())
        if own.get(name) != other.get(name)
    ]
    if found and not allow_mismatch:
        raise ReferenceMismatchError(
            f"the null was made otherwise: {'; '.join(found)}. Make one with scan-null and the parameters of "
            "this scan, or allow it with allow_mismatch"
        )
    return found


def _flat(words: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in words.items():
        if isinstance(value, Mapping):
            result |= _flat(value, f"{prefix}{name}.")
        else:
            result[prefix + name] = value
    return result


@dataclass(frozen=True)
class Null:
    """A null ready for use.

    Attributes
    ----------
    hashes : uint64[n], ascending
    dips : float64[n], statistic of the best dip of each sample object
    features : float64[n, 7], centred and in units of their spread
    centre, spread : float64[7]
    neighbours : int
        How many sample objects tell the law of an object.
    reach : float
        Distance that 99.9 % of the sample objects have their neighbours within.
    """

    hashes: NDArray[np.uint64]
    dips: Floats
    features: Floats
    centre: Floats
    spread: Floats
    neighbours: int
    reach: float

    @classmethod
    def of(cls, null: xr.Dataset, neighbours: int = _NEIGHBOURS) -> Null:
        """Make it from the product."""
        return cls.from_sample({name: null[name].values for name in SAMPLE}, neighbours)

    @classmethod
    def from_sample(cls, sample: Mapping[str, np.ndarray], neighbours: int = _NEIGHBOURS) -> Null:
        """Make it from arrays as `build` takes them."""
        given = np.asarray(sample["sample_features"], np.float64)
        low, centre, high = np.percentile(given, [16, 50, 84], axis=0)
        spread = (high - low) / 2
        # A feature that most objects share still tells the others apart.
        spread = np.where(spread > 0, spread, np.maximum(given.std(axis=0), 1e-3))
        # Few objects are asked in a small sample, so that the neighbours are near.
        count = min(neighbours, max(_FEWEST - 1, len(given) // 4))
        made = cls(
            np.asarray(sample["sample_hash"]),
            np.asarray(sample["sample_statistic"], np.float64)[:, 1],
            (given - centre) / spread,
            centre,
            spread,
            count,
            np.inf,
        )
        some = slice(0, 2000)  # a random part, as hashes are
        _, far = made._law(given[some], made.hashes[some])
        return cls(**{**vars(made), "reach": float(np.quantile(far, 0.999))})

    def fap(
        self, statistic: Floats, features: Floats, hashes: NDArray[np.uint64] | None = None
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """False-alarm probabilities: chances that a curve like this without anomaly gives as much or more.

        Parameters
        ----------
        statistic : float64[m, 2], as `statistic` gives it
        features : float64[m, 7], as `features` gives them
        hashes : uint64[m], optional
            Hashes of the ids: an object of the sample does not count for itself.

        Returns
        -------
        float64[m, 2]
            Of the best bump and of the best dip; NaN where nothing was scanned.
        bool[m]
            Whether the null knows curves like this: its neighbours lie no farther than those of 99.9 % of its
            own objects.
        """
        result = np.full((len(features), 2), np.nan)
        known = np.zeros(len(features), bool)
        usable = np.isfinite(statistic).all(axis=1) & np.isfinite(features).all(axis=1)
        law, far = self._law(features[usable], None if hashes is None else hashes[usable])
        result[usable] = gumbel.survival(statistic[usable], law[:, :1], law[:, 1:])
        known[usable] = far <= self.reach
        return result, known

    def _law(self, features: Floats, hashes: NDArray[np.uint64] | None) -> tuple[Floats, Floats]:
        """Mu and beta of each row, and the distance of its last neighbour."""
        law, far = np.empty((len(features), 2)), np.empty(len(features))
        columns = np.ascontiguousarray(self.features.T)
        for start in range(0, len(features), 64):
            query = (features[start : start + 64] - self.centre) / self.spread
            # Not by a matrix product, whose last bits depend on how objects are blocked.
            distance = np.zeros((len(query), len(self.dips)))
            for column, value in zip(columns, query.T, strict=True):
                distance += (column - value[:, None]) ** 2
            if hashes is not None:
                own = np.searchsorted(self.hashes, hashes[start : start + 64])
                own = np.minimum(own, len(self.hashes) - 1)
                rows = np.flatnonzero(self.hashes[own] == hashes[start : start + 64])
                distance[rows, own[rows]] = np.inf
            near = np.argpartition(distance, self.neighbours - 1, axis=1)[:, : self.neighbours]
            far[start : start + 64] = np.sqrt(np.take_along_axis(distance, near, 1).max(axis=1))
            law[start : start + 64] = np.stack(gumbel.fit(self.dips[near], _LOW, _HIGH), axis=1)
        return law, far


def combined(bump: Floats, dip: Floats) -> Floats:
    """Chance of such a bump or such a dip: ``1 - (1 - p_min)^2`` (Sidak 1967, JASA 62, 626).

    Parameters
    ----------
    bump, dip : float64[n]

    Returns
    -------
    float64[n]
    """
    with np.errstate(divide="ignore"):
        return np.asarray(-np.expm1(2 * np.log1p(-np.fmin(bump, dip))))
