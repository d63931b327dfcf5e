"""Single-lens fits: batched PSPL by variable projection, and finite source and parallax on demand."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from skytrawl.kernels.lens.types import STATUS_TEXT, FitOptions, Fits

if TYPE_CHECKING:
    from skytrawl.kernels.lens.cpu import fit
    from skytrawl.kernels.lens.cpu_result import constant, model, residual

__all__ = ["KERNEL_VERSION", "STATUS_TEXT", "FitOptions", "Fits", "constant", "fit", "model", "residual"]

# Enters the fingerprint of every run: raise it when a fit gives other numbers.
KERNEL_VERSION = "1"

# Loaded at first use: options and texts are read where Numba is not wanted.
_COMPILED = {"fit": "cpu", "constant": "cpu_result", "model": "cpu_result", "residual": "cpu_result"}


def __getattr__(name: str) -> Any:
    if name not in _COMPILED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_COMPILED[name]}"), name)
