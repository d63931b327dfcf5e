"""False-alarm probabilities of a single curve, from copies of it with random signs.

Where there is no survey to tell what noise does, the curve itself must. Copies need the correlated noise of
the curve and must not hold its anomaly. Turning the sign of the whole curve leaves dchi2 unchanged, and
shuffling times removes the correlation. Random signs on blocks longer than the correlation time keep what is
shorter than a block as it is: of the thousands of peaks inside the blocks all copies show the same ones, and
no other draw of the noise. A short bump then comes back in every other copy; and once it is taken out, the
largest peak of pure noise is held against the second largest (26 to 38 % false alarms at nominal 5 %).

Therefore signs are drawn on nested blocks, of every length from the whole data set to the single row: a block
is cut in two near its middle, at random, the difference between the means of its parts gets a random sign,
and each part is cut in the same way. These differences are the coefficients of an unbalanced Haar wavelet.
It is orthogonal and nearly decorrelates noise of a smooth spectrum, so that the copies have the power of the
curve at every time scale, everywhere in it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.curves import Curves
from skytrawl.kernels.jit import njit
from skytrawl.kernels.scan import gumbel
from skytrawl.kernels.scan.statistic import statistic
from skytrawl.kernels.scan.types import ScanGrid, ScanResult

Floats = NDArray[np.float64]
Scan = Callable[[Curves, ScanGrid], ScanResult]

# Candidates beyond what one curve in a hundred has: ln(-ln(0.99)) of Gumbel's law; they are looked for in so
# many rounds, with so many copies each.
_FAR, _ROUNDS, _FEW_COPIES = 4.6, 8, 25
# Rows of all copies that are scanned at a time.
_ROWS = 2_000_000
_FEWEST = 20
# So many rows outside of what is taken out can stand for the noise; fewer say that nothing is improbable.
_NOISE_ROWS = 40


class SignNull(NamedTuple):
    """What the copies of one curve say.

    Attributes
    ----------
    fap : float64[2], of the best bump and of the best dip; NaN where nothing was scanned
    statistic : float64[2], see `skytrawl.kernels.scan.statistic`
    mu, beta : float, the fitted law ``P(S > s) = 1 - exp(-exp(-(s - mu) / beta))``
    draws : float64[n_signs, 2], statistic of the best bump and dip of each copy
    lowered : int, rows of candidates that were scaled down for the copies
    """

    fap: Floats
    statistic: Floats
    mu: float
    beta: float
    draws: Floats
    lowered: int


@njit()
def nested_signs(z, cut, sign, out):  # type: ignore[no-untyped-def]
    """Draw nested signs.

    Parameters
    ----------
    z : float64[n], residuals over errors, in order of time
    cut : float64[n - 1], random numbers from 0 to 1: where blocks are cut, from 0.35 to 0.65 of their rows
    sign : float64[n - 1], +1 or -1
    out : float64[n], filled
    """
    n = len(z)
    total = np.zeros(n + 1)
    for i in range(n):
        total[i + 1] = total[i] + z[i]
    # Cuts at 0.65 at most leave one row after 2 log2(n) levels, and each level leaves one block waiting.
    begin, end, mean = np.empty(256, np.int64), np.empty(256, np.int64), np.empty(256)
    begin[0], end[0], mean[0] = 0, n, 0.0
    waiting = 1 if n > 0 else 0
    used = 0
    while waiting > 0:
        waiting -= 1
        a, b, new = begin[waiting], end[waiting], mean[waiting]
        if b - a == 1:
            out[a] = new
            continue
        c = a + round((b - a) * (0.35 + 0.3 * cut[used]))
        c = min(max(c, a + 1), b - 1)
        old = (total[b] - total[a]) / (b - a)
        left = sign[used] * ((total[c] - total[a]) / (c - a) - old)
        right = sign[used] * ((total[b] - total[c]) / (b - c) - old)
        used += 1
        begin[waiting], end[waiting], mean[waiting] = a, c, new + left
        begin[waiting + 1], end[waiting + 1], mean[waiting + 1] = c, b, new + right
        waiting += 2


def sign_null(curves: Curves, grid: ScanGrid, scan: Scan, n_signs: int = 100, seed: int = 0) -> SignNull:
    """False-alarm probabilities of the best bump and dip of one object, from its own residuals.

    Bumps and dips of the copies count alike: signs are as likely one way as the other.

    A strong anomaly would fill the copies with its own power, so that nothing could ever be less likely than
    about 1 %. To find what is strong, the best bump and dip are taken out (their rows get residuals of a
    stretch of as many rows elsewhere in their data set), as is what else then exceeds the highest peak of
    99 % of such copies. The final copies come from the curve with every candidate beyond that peak scaled
    down to it; where there is none, from the curve as it is. An anomaly that fills half of a curve remains
    hard to tell from noise of a long time scale.

    Parameters
    ----------
    curves : Curves
        Residuals of one object.
    grid : ScanGrid
    scan : callable
        (curves, grid) -> ScanResult, the scan that the probabilities are for.
    n_signs : int
        Copies, 20 at least.
    seed : int
        Same seed, same answer.

    Returns
    -------
    SignNull

    Raises
    ------
    ParameterError
        For fewer than 20 copies, or other than one object.
    """
    if curves.n_objects != 1:
        raise ParameterError(f"signs are drawn for one object at a time, and there are {curves.n_objects}")
    if n_signs < _FEWEST:
        raise ParameterError(f"n_signs={n_signs}: a law cannot be fitted to fewer than {_FEWEST} copies")
    result = scan(curves, grid)
    found = statistic(result)[0]
    if not result.n_filled[0]:
        return SignNull(np.full(2, np.nan), np.full(2, np.nan), np.nan, np.nan, np.empty((0, 2)), 0)
    z = curves.flux / curves.error
    generator = np.random.default_rng(seed)
    factor = _lowered(curves, z, result, grid, scan, generator)
    draws = _draw(curves, z * factor, grid, scan, n_signs, generator)
    mu, beta = (float(x[0]) for x in gumbel.fit(draws.reshape(1, -1)))
    fap = gumbel.survival(found, np.full(2, mu), np.full(2, beta))
    return SignNull(fap, found, mu, beta, draws, int((factor < 1).sum()))


def _lowered(
    curves: Curves, z: Floats, result: ScanResult, grid: ScanGrid, scan: Scan, generator: np.random.Generator
) -> Floats:
    """Factor of each row that scales candidates beyond the highest peaks of noise down to these."""
    found = []
    masked, limit = np.zeros(len(z), bool), 0.0
    for _ in range(_ROUNDS):
        values = statistic(result)[0]
        new = [side for side in (0, 1) if values[side] > limit]
        for side in new:
            t0, teff = result.extreme.t0[0, side], result.extreme.teff[0, side]
            window = np.abs(curves.time - t0) < grid.teff_coeff * teff
            found.append((values[side], window))
            masked |= window
        if not new:
            break
        if np.count_nonzero(~masked) < _NOISE_ROWS:
            if limit == 0.0:
                return np.ones(len(z))
            break
        without = _without(curves, z, masked, generator)
        draws = _draw(curves, without, grid, scan, _FEW_COPIES, generator)
        mu, beta = gumbel.fit(draws.reshape(1, -1))
        limit = float(mu[0] + _FAR * beta[0])
        result = scan(curves.with_flux(without * curves.error), grid)
    factor = np.ones(len(z))
    for value, window in found:
        if value > limit:
            factor[window] = np.minimum(factor[window], np.sqrt(limit / value))
    return factor


def _draw(
    curves: Curves,
    z: Floats,
    grid: ScanGrid,
    scan: Scan,
    n_signs: int,
    generator: np.random.Generator,
) -> Floats:
    draws = []
    each = max(1, _ROWS // max(len(z), 1))
    for start in range(0, n_signs, each):
        count = min(each, n_signs - start)
        copies = np.empty((count, len(z)))
        for copy in copies:
            for a, b in zip(curves.rows[:-1], curves.rows[1:], strict=True):
                cut, sign = generator.random(b - a - 1), generator.choice((-1.0, 1.0), b - a - 1)
                nested_signs(z[a:b], cut, sign, copy[a:b])
        draws.append(statistic(scan(_tiled(curves, copies * curves.error), grid)))
    return np.concatenate(draws)


def _without(curves: Curves, z: Floats, masked: NDArray[np.bool_], generator: np.random.Generator) -> Floats:
    """Residuals with those of the mask replaced by a stretch of the others, from a random row on."""
    z = z.copy()
    for a, b in zip(curves.rows[:-1], curves.rows[1:], strict=True):
        gone = masked[a:b]
        others = z[a:b][~gone]
        if len(others) and len(others) < b - a:
            first = int(generator.integers(len(others)))
            z[a:b][gone] = np.take(others, first + np.arange(int(gone.sum())), mode="wrap")
    return z


def _tiled(curves: Curves, flux: Floats) -> Curves:
    """As many objects as `flux` has rows, all like the one object of `curves`."""
    count, n = flux.shape
    shift = np.arange(count)[:, None]
    return Curves(
        np.tile(curves.time, count),
        flux.ravel(),
        np.tile(curves.error, count),
        np.append((curves.rows[:-1] + shift * n).ravel(), count * n),
        np.append((curves.sets[:-1] + shift * curves.n_sets).ravel(), count * curves.n_sets),
        np.tile(curves.label, count),
        np.tile(curves.source, count),
    )
