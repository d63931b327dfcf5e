"""Numba's njit with the options of all kernels, and compiled code kept outside the package.

Compiled code beside the sources would survive an uninstall, and the folder that is left would shadow a later
editable install.
"""

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

config: Any = numba.config

Function = TypeVar("Function", bound=Callable[..., Any])


@cache
def sources() -> str:
    """12 hex digits that change with any source file of the kernels.

    Numba looks at the file of a function, not at those of the functions it calls: after an upgrade in which
    only these changed, it would run old code.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def cache_folder() -> str:
    """Where compiled code of these sources is kept, below NUMBA_CACHE_DIR or the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(config.CACHE_DIR or Path(home) / "skytrawl" / "numba") / sources())


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
