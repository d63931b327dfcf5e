"""Templates as the compiled scan takes them: addresses of compiled functions, and polynomials along the grid.

A row of the light curve that enters the window of a t0 stays in it for 35 or 36 further t0 (default grid), at
``u = teff_coeff - theta - m * dt0_coeff`` for m = 0, 1, ..., where theta in [0, dt0_coeff) says where between
two t0 the row lies. So the template at step m is a function of theta alone, the same for every teff and t0,
and over so short a stretch a polynomial of degree 6 gives both bells to some 1e-9. Templates with corners
have no such polynomials and are called instead.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.scan.templates import Template
from skytrawl.kernels.scan.templates import bank as templates_of
from skytrawl.kernels.scan.types import ScanGrid

DEGREE = 6
# Steps a row may stay in the window, and numbers of steps that one row of the grid can bring.
WIDTH = 128
LENGTHS = 4
# theta may leave its range by this part of it: the windows are 3e-7 d narrower than teff_coeff * teff.
SLACK = 0.01
# Worse polynomials than this make the scan call the template.
WORST = 1e-6


class Bank(NamedTuple):
    """A bank of templates for one grid.

    Attributes
    ----------
    names : tuple of str
    address : int64[n_templates], compiled functions ``double(double)``
    coef, square : float64[n_templates, LENGTHS, DEGREE + 1, WIDTH]
        Polynomials in ``phi`` of the template and of its square at step m; zero from step ``longest - v`` on
        for table v. phi = -1 .. 1 runs over `middle` -+ `reach` in ``u`` at step 0.
    error : float64[n_templates], largest error of the polynomials; infinity: call the template
    largest, slope : float64[n_templates], largest value and derivative in the window
    longest : int, most steps that a row can stay in the window
    middle, reach : float
    """

    names: tuple[str, ...]
    address: NDArray[np.int64]
    coef: NDArray[np.float64]
    square: NDArray[np.float64]
    error: NDArray[np.float64]
    largest: NDArray[np.float64]
    slope: NDArray[np.float64]
    longest: int
    middle: float
    reach: float


def make_bank(bank: Sequence[str | Template], grid: ScanGrid) -> Bank:
    """Tables of a bank on a grid, kept for the next call.

    Raises
    ------
    ParameterError
        For an empty bank or an unknown template.
    """
    return _make_bank(
        templates_of([bank] if isinstance(bank, str) else bank), grid.dt0_coeff, grid.teff_coeff
    )


@lru_cache(maxsize=32)
def _make_bank(bank: tuple[Template, ...], step: float, coeff: float) -> Bank:
    from skytrawl.kernels.scan.calls import address_of, values

    longest = int(2 * coeff / step) + 2
    n = len(bank)
    coef = np.zeros((n, LENGTHS, DEGREE + 1, WIDTH))
    square = np.zeros_like(coef)
    error = np.full(n, np.inf)
    largest, slope = np.empty(n), np.empty(n)
    middle, reach = coeff - step / 2, step / 2 * (1 + SLACK)
    nodes = np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))
    checks = np.linspace(-1, 1, 65)
    for t, template in enumerate(bank):
        fine = np.linspace(-coeff, coeff, 4097)
        at = values(template, fine)
        largest[t], slope[t] = np.abs(at).max(), np.abs(np.diff(at)).max() / (fine[1] - fine[0])
        if longest > WIDTH:
            continue
        steps = middle - step * np.arange(longest)
        worst = 0.0
        for power, table in ((1, coef), (2, square)):
            samples = values(template, steps + reach * nodes[:, None]) ** power
            # The polynomial through Chebyshev nodes, in powers of phi: harmless at this degree.
            powers = np.linalg.solve(np.vander(nodes, increasing=True), samples)
            fitted = np.polynomial.polynomial.polyval(checks, powers).T
            worst = max(
                worst, np.abs(fitted - values(template, steps + reach * checks[:, None]) ** power).max()
            )
            for v in range(LENGTHS):
                table[t, v, :, : longest - v] = powers[:, : longest - v]
        if worst <= WORST:
            error[t] = 1.5 * worst + 1e-15
    address = np.array([address_of(template) for template in bank], np.int64)
    return Bank(
        tuple(t.name for t in bank), address, coef, square, error, largest, slope, longest, middle, reach
    )
