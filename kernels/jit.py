"""Numba's njit with the options of all kernels, and compiled code kept outside the package.

Compiled code beside the sources would survive an uninstall, and the folder that is left would shadow a later
editable install.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

config: Any = numba.config

Function = TypeVar("Function", bound=Callable[..., Any])


def cache_folder() -> str:
    """Where compiled code is kept: NUMBA_CACHE_DIR, else the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return config.CACHE_DIR or str(Path(home) / "skytrawl" / "numba")


def njit(**options: Any) -> Callable[[Function], Function]:
    """Compile at the first call, without the GIL, and cache.

    Parameters
    ----------
    **options
        Further options of ``numba.njit``.
    """

    def decorate(function: Function) -> Function:
        before = config.CACHE_DIR
        # Read while the decorator runs, and put back: other programs' functions are not ours to move.
        config.CACHE_DIR = cache_folder()
        try:
            compiled: Function = numba.njit(cache=True, nogil=True, **options)(function)
            return compiled
        finally:
            config.CACHE_DIR = before

    return decorate
