"""The fused scan on the CPU: grid, clusters and typical values of each object without keeping the grid."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.curves import Curves
from skytrawl.kernels.scan.seasons import season_gap
from skytrawl.kernels.scan.tables import WIDTH, Bank, make_bank
from skytrawl.kernels.scan.templates import Template
from skytrawl.kernels.scan.types import Candidates, ScanGrid, ScanResult


def bank_arguments(bank: Bank) -> tuple[object, ...]:
    """What the compiled code takes of a bank."""
    width = min((bank.longest + 7) // 8 * 8, WIDTH)
    coef, square = (table.reshape(len(bank.names), -1) for table in (bank.coef, bank.square))
    return (bank.address, coef, square, bank.error, bank.largest, bank.slope, bank.longest, width)


def candidates_of(
    number: NDArray[np.int64], t0: NDArray[np.float64], dchi2: NDArray[np.float64], teff: NDArray[np.float64]
) -> Candidates:
    """Candidates out of [n_objects, K, 6] whole numbers and [n_objects, K] t0 and dchi2."""
    season, scale, step, template, sign, n_window = np.moveaxis(number, -1, 0)
    scales = np.where(scale >= 0, teff[scale], np.nan)
    columns = (season, scale, step, t0, scales, dchi2, template, sign, n_window)
    return Candidates(*(np.ascontiguousarray(column) for column in columns))


def scan(curves: Curves, grid: ScanGrid, bank: Sequence[str | Template], k: int) -> ScanResult:
    """Scan a block of curves; see `skytrawl.kernels.scan.scan`."""
    from skytrawl.kernels.scan.block import scan_block

    made = make_bank(bank, grid)
    n, teff = curves.n_objects, np.array(grid.teff)
    number = np.empty((n, k + 2, 6), np.int64)
    t0, dchi2 = np.empty((n, k + 2)), np.empty((n, k + 2))
    noise, sizes = np.empty((n, len(teff))), np.empty((n, 3), np.int64)
    scan_block(
        curves.time, curves.flux, curves.error, curves.rows, curves.sets, teff, season_gap(grid),
        grid.dt0_coeff, grid.teff_coeff, grid.min_points, grid.overlap, grid.as_original, k,
        bank_arguments(made), made.middle, made.reach, number, t0, dchi2, noise, sizes,
    )  # fmt: skip
    top = candidates_of(number[:, :k], t0[:, :k], dchi2[:, :k], teff)
    extreme = candidates_of(number[:, k:], t0[:, k:], dchi2[:, k:], teff)
    return ScanResult(top, extreme, noise, *(np.ascontiguousarray(column) for column in sizes.T))
