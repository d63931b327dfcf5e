"""SciPy's one-dimensional transforms written where they are wanted.

``scipy.fft`` gives new arrays, and what is copied out of them once more costs a sixth of a subtraction. The
functions behind it (pypocketfft) take a destination; they are used where they are found and work,
and else `scipy.fft` and a copy do the same.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ALONG_ROWS, _ALONG_COLUMNS = (1,), (0,)
_NOT_SCALED, _BY_LENGTH = 0, 2  # names of pypocketfft for the scaling


@cache
def direct() -> Any:
    """SciPy's pypocketfft, or None where its functions do not write where they are told to."""
    try:
        from scipy.fft._pocketfft import pypocketfft

        there = np.zeros((2, 3), np.complex64)
        pypocketfft.r2c(np.eye(2, 4, dtype=np.float32), _ALONG_ROWS, True, _NOT_SCALED, there[:, :3], 1)
        back = np.zeros((2, 4), np.float32)
        pypocketfft.c2r(there, _ALONG_ROWS, 4, False, _BY_LENGTH, back, 1)
        pypocketfft.c2c(there, _ALONG_COLUMNS, True, _NOT_SCALED, there, 1)
    except Exception:  # whatever another SciPy makes of it
        return None
    right = np.allclose(back, np.eye(2, 4)) and np.allclose(there[:, 0], (2, 0))
    return pypocketfft if right else None


def rows(plane: NDArray[np.float32], out: NDArray[np.complex64]) -> None:
    """Transform real rows to [n, nx // 2 + 1]."""
    library = direct()
    if library is None:
        from scipy.fft import rfft

        out[...] = rfft(plane, axis=1, workers=1)
        return
    library.r2c(plane, _ALONG_ROWS, True, _NOT_SCALED, out, 1)


def rows_back(plane: NDArray[np.complex64], out: NDArray[np.float32]) -> None:
    """Transform [n, nx // 2 + 1] back to real rows."""
    library = direct()
    if library is None:
        from scipy.fft import irfft

        out[...] = irfft(plane, n=out.shape[1], axis=1, workers=1)
        return
    library.c2r(plane, _ALONG_ROWS, out.shape[1], False, _BY_LENGTH, out, 1)


def columns(plane: NDArray[np.complex64], out: NDArray[np.complex64], forward: bool) -> None:
    """Transform columns, forth or back."""
    library = direct()
    if library is None:
        from scipy.fft import fft, ifft

        out[...] = (fft if forward else ifft)(plane, axis=0, workers=1)
        return
    library.c2c(plane, _ALONG_COLUMNS, forward, _NOT_SCALED if forward else _BY_LENGTH, out, 1)
