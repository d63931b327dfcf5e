"""Candidates of many exposures that are one object on the sky, in Numba.

Detections are hashed by their unit vectors into cubes with sides of the linking radius, so that friends lie
in the 27 cubes around: no poles, no wrap of right ascension, no pairs of all with all. The detection with the
most detections within the radius becomes a centre, takes those of them that are still free, and so on down;
groups whose means are within the radius of a larger one's yield to it; then every detection goes to the
nearest mean. Unlike friends of friends, that does not chain neighbours in a crowd.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skytrawl.errors import ParameterError, SchemaError
from skytrawl.kernels.jit import njit

ARCSEC = np.pi / 180.0 / 3600.0
# Cubes are numbered with 21 bits an axis.
SMALLEST = 2.0**-19
LARGEST = 600.0


class Links(NamedTuple):
    """Objects, numbered by declination, then right ascension, of their positions.

    Attributes
    ----------
    object : int64[n], object of each candidate; -1 where the position is not finite
    ra, dec : float64[m], degrees, mean direction of the candidates of each object
    n : int64[m], candidates
    n_epochs : int64[m], different times among them
    first, last : float64[m], earliest and latest time
    scatter : float64[m], arcsec, root mean square distance from the position
    """

    object: NDArray[np.int64]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    n: NDArray[np.int64]
    n_epochs: NDArray[np.int64]
    first: NDArray[np.float64]
    last: NDArray[np.float64]
    scatter: NDArray[np.float64]


def _vectors(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def _cubes(points: NDArray[np.float64], side: float) -> NDArray[np.int64]:
    """Number of the cube of each point; cubes in a row along the last axis are consecutive."""
    cell = np.floor((points + 1.0) / side).astype(np.int64) + 1
    return (cell[:, 0] << 42) | (cell[:, 1] << 21) | cell[:, 2]


@njit()
def _rows(cubes, cube):  # type: ignore[no-untyped-def]
    """Begin and end, in the ascending `cubes`, of the nine rows of three cubes around one."""
    bounds = np.empty((9, 2), np.int64)
    m = 0
    for i in range(-1, 2):
        for j in range(-1, 2):
            middle = cube + (i << 42) + (j << 21)
            bounds[m, 0] = np.searchsorted(cubes, middle - 1)
            bounds[m, 1] = np.searchsorted(cubes, middle + 1, side="right")
            m += 1
    return bounds


@njit()
def _apart(p, q):  # type: ignore[no-untyped-def]
    return (p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 + (p[2] - q[2]) ** 2


@njit()
def _count(points, cubes, limit):  # type: ignore[no-untyped-def]
    """Number of points within the chord `limit` (squared) of each, itself included."""
    n = len(points)
    result = np.zeros(n, np.int64)
    start = 0
    while start < n:
        stop = start
        while stop < n and cubes[stop] == cubes[start]:
            stop += 1
        bounds = _rows(cubes, cubes[start])
        for k in range(start, stop):
            for m in range(9):
                for j in range(bounds[m, 0], bounds[m, 1]):
                    result[k] += _apart(points[k], points[j]) <= limit
        start = stop
    return result


@njit()
def _centres(points, cubes, order, limit):  # type: ignore[no-untyped-def]
    """Group of each point: the first free point of the order takes all free ones within reach."""
    group = np.full(len(points), -1, np.int64)
    count = 0
    for k in order:
        if group[k] >= 0:
            continue
        bounds = _rows(cubes, cubes[k])
        for m in range(9):
            for j in range(bounds[m, 0], bounds[m, 1]):
                if group[j] < 0 and _apart(points[k], points[j]) <= limit:
                    group[j] = count
        count += 1
    return group, count


@njit()
def _nearest(points, group, means, mean_cubes, point_cubes, mean_group, limit):  # type: ignore[no-untyped-def]
    """Move each point to the group with the nearest mean within reach, the first of equal ones."""
    moved = group.copy()
    for k in range(len(points)):
        best = limit
        bounds = _rows(mean_cubes, point_cubes[k])
        for m in range(9):
            for j in range(bounds[m, 0], bounds[m, 1]):
                apart = _apart(points[k], means[j])
                if apart < best or (apart == best and mean_group[j] < moved[k]):
                    best = apart
                    moved[k] = mean_group[j]
    return moved


def _means(points: NDArray[np.float64], group: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    sums = np.stack([np.bincount(group, points[:, i], count) for i in range(3)], axis=1)
    return sums / np.sqrt(np.sum(sums * sums, axis=1, keepdims=True))


def _described(
    known: NDArray[np.int64], points: NDArray[np.float64], group: NDArray[np.int64], mjd: NDArray[np.float64]
) -> Links:
    """Objects of the points `known`; those of the other rows stay -1."""
    count = int(group.max()) + 1 if len(group) else 0
    means = _means(points, group, count)
    ra = np.mod(np.degrees(np.arctan2(means[:, 1], means[:, 0])), 360.0)
    dec = np.degrees(np.arctan2(means[:, 2], np.hypot(means[:, 0], means[:, 1])))
    order = np.lexsort((ra, dec))
    number = np.empty(count, np.int64)
    number[order] = np.arange(count)
    owner, means = number[group], means[order]
    object_of = np.full(len(mjd), -1, np.int64)
    object_of[known] = owner
    time = mjd[known]
    by_time = np.lexsort((time, owner))
    owners, times = owner[by_time], time[by_time]
    start = np.searchsorted(owners, np.arange(count))
    fresh = np.ones(len(times), bool)
    fresh[1:] = (owners[1:] != owners[:-1]) | (times[1:] != times[:-1])
    n = np.bincount(owner, minlength=count)
    squares = np.bincount(owner, np.sum((points - means[owner]) ** 2, axis=1), count)
    return Links(
        object_of,
        ra[order],
        dec[order],
        n,
        np.bincount(owners[fresh], minlength=count),
        times[start],
        np.fmax.reduceat(times, start) if count else times,
        np.sqrt(squares / n) / ARCSEC,
    )


def link(ra: ArrayLike, dec: ArrayLike, mjd: ArrayLike, radius: float) -> Links:
    """Link candidates by position.

    The result does not depend on the order of the candidates, only on their values: centres are taken by the
    number of candidates around them, equal ones by declination, right ascension and time.

    Parameters
    ----------
    ra, dec : float64[n], degrees
    mjd : float64[n], days
    radius : float, arcsec
        Positions of different objects lie about so far apart at least; 600 at most.

    Returns
    -------
    Links

    Raises
    ------
    SchemaError
        For vectors of different lengths.
    ParameterError
        For a radius that is not positive or larger than 600.
    """
    ra, dec, mjd = (np.asarray(v, np.float64) for v in (ra, dec, mjd))
    if ra.ndim != 1 or not ra.shape == dec.shape == mjd.shape:
        raise SchemaError(f"ra, dec and mjd have shapes {ra.shape}, {dec.shape} and {mjd.shape}")
    if not 0.0 < radius <= LARGEST:
        raise ParameterError(f"the radius is {radius} arcsec: give a number in (0, {LARGEST:.0f}]")
    known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    # Everything below runs in the order of the values, so that sums round alike whatever the order given.
    known = known[np.lexsort((mjd[known], np.mod(ra[known], 360.0), dec[known]))]
    points = _vectors(np.mod(ra[known], 360.0), dec[known])
    chord = 2.0 * np.sin(radius * ARCSEC / 2.0)
    side, limit = max(chord, SMALLEST), chord * chord
    cubes = _cubes(points, side)
    by_cube = np.argsort(cubes, kind="stable")
    points, cubes, known = points[by_cube], cubes[by_cube], known[by_cube]
    crowd = _count(points, cubes, limit)
    order = np.lexsort((by_cube, -crowd))
    group, count = _centres(points, cubes, order, limit)
    means = _means(points, group, count)
    mean_cubes = _cubes(means, side)
    by_cube = np.argsort(mean_cubes, kind="stable")
    means, mean_cubes = means[by_cube], mean_cubes[by_cube]
    group = np.argsort(by_cube)[group]
    # Fringes of a group are no objects: groups yield to a larger one whose mean is within reach.
    size = np.bincount(group, minlength=count)
    order = np.lexsort((by_cube, -size))
    merged, count = _centres(means, mean_cubes, order, limit)
    leader = np.empty(count, np.int64)
    leader[merged[order[::-1]]] = order[::-1]
    leader.sort()
    group = _nearest(points, merged[group], means[leader], mean_cubes[leader], cubes, merged[leader], limit)
    group = np.unique(group, return_inverse=True)[1]
    return _described(known, points, group, mjd)
