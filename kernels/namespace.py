"""The array library of a computation, with what the array API promises and CuPy leaves out."""

import sys
from contextlib import nullcontext
from functools import cache
from typing import Any

_CREATION = frozenset(
    {"arange", "asarray", "empty", "empty_like", "eye", "full", "full_like", "linspace"}
    | {"ones", "ones_like", "zeros", "zeros_like"}
)
_SORTS = frozenset({"argsort", "sort"})


class _OnCurrentDevice:
    """A library whose functions that make arrays know no argument `device`, given one.

    The device of a CuPy array is a context, within which arrays are made on it. CuPy's sorts are stable and
    take no `stable`.
    """

    def __init__(self, library: Any) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._library, name)
        if name in _SORTS:

            def ordered(*args: Any, stable: bool = True, **options: Any) -> Any:
                return found(*args, **options)

            return ordered
        if name not in _CREATION:
            return found

        def made(*args: Any, device: Any = None, **options: Any) -> Any:
            with device if hasattr(device, "__enter__") else nullcontext():
                return found(*args, **options)

        return made


@cache
def _complete(library: Any) -> Any:
    try:
        library.empty((0,), device=None)
    except TypeError:
        return _OnCurrentDevice(library)
    return library


def namespace(array: Any, xp: Any = None) -> Any:
    """Library of the array API for an array.

    Parameters
    ----------
    array : array
    xp : module, optional
        By default what the array names (``__array_namespace__``), or else the package of its type (CuPy).

    Returns
    -------
    module or the like
        Its functions that make arrays take `device`.
    """
    if isinstance(xp, _OnCurrentDevice):
        return xp
    if xp is None and hasattr(array, "__array_namespace__"):
        xp = array.__array_namespace__()
    elif xp is None:
        xp = sys.modules[type(array).__module__.partition(".")[0]]
    return _complete(xp)


def device_namespace() -> Any:  # pragma: no cover - needs a CUDA device
    """CuPy, the array library of the current CUDA device, under the signatures of the array API."""
    import cupy

    return namespace(None, cupy)
