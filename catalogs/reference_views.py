"""What is derived from a reference: P(dm|dt), its expectation, merged rows, drift between two versions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skytrawl.catalogs.reference_model import ScoreModel, cell_probability, prior_of, smoothed
from skytrawl.catalogs.references import counts_of, grid_of
from skytrawl.errors import ParameterError, ReferenceMismatchError

if TYPE_CHECKING:
    import xarray as xr

Floats = NDArray[np.float64]
_DRIFT = (
    "divergence",
    "chi_square",
    "degrees_of_freedom",
    "p",
    "pairs_left",
    "pairs_right",
    "new_pairs",
)


def row_edges(pairs: NDArray[np.integer], least: int) -> NDArray[np.int64]:
    """Join rows to the right until each holds `least` pairs.

    Parameters
    ----------
    pairs : int[n_rows], pairs of each row
    least : int
        The last group may hold fewer, as in soraisam2020.

    Returns
    -------
    int64[n_groups + 1]
        First row of each group, and n_rows at the end.
    """
    starts, held = [0], 0
    for row, number in enumerate(pairs):
        held += int(number)
        if held >= least:
            starts.append(row + 1)
            held = 0
    if starts[-1] != len(pairs):
        starts.append(len(pairs))
    return np.array(starts, np.int64)


def probability(
    reference: xr.Dataset, *, class_name: str | None = None, min_pairs: int = 100, smooth: bool = False
) -> dict[str, dict[str, Floats]]:
    """P(dm|dt) of each key, for figures and inspection.

    Parameters
    ----------
    reference : xarray.Dataset
        Count tensor.
    class_name : str, optional
        One class; default: all together.
    min_pairs : int
        Neighbouring dt rows are merged until each holds as many pairs; 0 merges none.
    smooth : bool
        Smooth and regularise as the scores `mean` and `tail` do with their default constants; then the rows
        are not merged.

    Returns
    -------
    dict
        Label of the key -> ``probability`` [n_rows, n_dm] (1/mag; its integral over dm is the fraction of
        pairs inside the dm range; NaN in rows without pairs), ``expectation`` [n_rows] (the integral of
        its square, 1/mag), ``pairs`` [n_rows], ``dt_edges`` [n_rows + 1] (d) and ``dm_edges``.
    """
    if reference.attrs["skytrawl"]["kind"] != "counts":
        raise ReferenceMismatchError(
            "only a count tensor has derived rows: soraisam2020 holds P(dm|dt) itself"
        )
    if min_pairs < 0:
        raise ParameterError("min_pairs must not be negative")
    grid, plain = grid_of(reference), counts_of(reference, class_name)
    width = np.diff(grid.dm.edges)
    result = {}
    for label, counts in zip(reference["key"].values.tolist(), plain.counts, strict=True):
        if smooth:
            model = ScoreModel()
            soft = smoothed(counts[:, 1:-1], model)
            density = cell_probability(soft, prior_of(soft.sum(0), model), model) / width
            density[counts.sum(-1) == 0] = np.nan
            pairs, edges = counts.sum(-1), grid.dt.edges
        else:
            starts = row_edges(counts.sum(-1), min_pairs)
            merged = np.add.reduceat(counts, starts[:-1], axis=0)
            pairs, edges = merged.sum(-1), grid.dt.edges[starts]
            empty = pairs[:, None] == 0
            density = np.where(empty, np.nan, merged[:, 1:-1] / np.where(empty, 1, pairs[:, None]) / width)
        result[label] = {
            "probability": density,
            "expectation": np.sum(density**2 * width, axis=-1),
            "pairs": pairs.astype(np.float64),
            "dt_edges": edges,
            "dm_edges": grid.dm.edges,
        }
    return result


def compare(left: xr.Dataset, right: xr.Dataset, *, coarse: int = 8) -> xr.Dataset:
    """How far two references have drifted apart.

    For each key the Jensen-Shannon divergence (bits, 0 equal to 1 disjoint) of the dm distributions of
    each row, averaged with the pairs of the row in both; and a two-sample chi-square over rows and blocks
    of `coarse` dm cells with 10 expected pairs or more on each side. Pairs of one object are not
    independent, so the p value is a lower bound: compare the divergence with that of two halves of one
    reference.

    Parameters
    ----------
    left, right : xarray.Dataset
        Count tensors on the same grid with the same keys; survey and cuts may differ.
    coarse : int
        dm cells in a block of the chi-square.

    Returns
    -------
    xarray.Dataset
        On dim key: divergence, chi_square, degrees_of_freedom, p, pairs_left, pairs_right, new_pairs
        (right minus left). Attributes: divergence over all keys, new_objects.

    Raises
    ------
    ReferenceMismatchError
        If the grids or keys differ.
    """
    a, b = left.attrs["skytrawl"], right.attrs["skytrawl"]
    if a["kind"] != "counts" or b["kind"] != "counts" or a["keys"] != b["keys"]:
        raise ReferenceMismatchError("two count tensors with the same keys can be compared")
    if grid_of(left) != grid_of(right):
        raise ReferenceMismatchError("the references are on different grids")
    first, second = counts_of(left), counts_of(right)
    import xarray as xr

    columns: dict[str, list[float]] = {name: [] for name in _DRIFT}
    total = weight = 0.0
    for x, y in zip(first.counts, second.counts, strict=True):
        rows = (x.sum(-1) > 0) & (y.sum(-1) > 0)
        pairs = (x.sum(-1) + y.sum(-1))[rows].astype(np.float64)
        divergence = _jensen_shannon(x[rows], y[rows])
        statistic, freedom = _chi_square(_blocks(x[rows], coarse), _blocks(y[rows], coarse))
        total += float(divergence @ pairs)
        weight += float(pairs.sum())
        row = {
            "divergence": float(divergence @ pairs / pairs.sum()) if len(pairs) else math.nan,
            "chi_square": statistic,
            "degrees_of_freedom": freedom,
            "p": _chi_square_tail(statistic, freedom),
            "pairs_left": int(x.sum()),
            "pairs_right": int(y.sum()),
            "new_pairs": int(y.sum()) - int(x.sum()),
        }
        for name, value in row.items():
            columns[name].append(value)
    drift = xr.Dataset({name: ("key", np.array(values)) for name, values in columns.items()})
    drift.attrs["divergence"] = total / weight if weight else math.nan
    drift.attrs["new_objects"] = second.n_objects - first.n_objects
    return drift.assign_coords(key=left["key"].values)


def _jensen_shannon(x: NDArray[np.integer], y: NDArray[np.integer]) -> Floats:
    p, q = (z / z.sum(-1, keepdims=True) for z in (x, y))
    middle = (p + q) / 2

    def relative(z: Floats) -> Floats:
        ratio = np.divide(z, middle, out=np.ones_like(z), where=z > 0)
        return np.asarray((z * np.log2(ratio)).sum(-1))

    return (relative(p) + relative(q)) / 2


def _blocks(counts: NDArray[np.integer], coarse: int) -> NDArray[np.integer]:
    return np.add.reduceat(counts, np.arange(0, counts.shape[-1], coarse), axis=-1)


def _chi_square(x: NDArray[np.integer], y: NDArray[np.integer]) -> tuple[float, int]:
    """Two-sample chi-square of rows with free totals, over cells that are filled well enough."""
    statistic, freedom = 0.0, 0
    for a, b in zip(x.astype(np.float64), y.astype(np.float64), strict=True):
        share = (a + b) / (a.sum() + b.sum())
        expected = np.array([share * a.sum(), share * b.sum()])
        good = expected.min(0) >= 10
        if good.sum() > 1:
            found = np.array([a, b])
            statistic += float(((found - expected)[:, good] ** 2 / expected[:, good]).sum())
            freedom += int(good.sum()) - 1
    return statistic, freedom


def _chi_square_tail(statistic: float, freedom: int) -> float:
    """Wilson and Hilferty (1931): the cube root of chi-square over its mean is nearly normal."""
    if not freedom:
        return math.nan
    spread = 2.0 / (9.0 * freedom)
    z = ((statistic / freedom) ** (1.0 / 3.0) - (1.0 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(z / math.sqrt(2.0))
