"""Single-lens fits: batched PSPL by variable projection, and finite source and parallax on demand."""

from skytrawl.kernels.lens.cpu import fit
from skytrawl.kernels.lens.cpu_result import constant, model, residual
from skytrawl.kernels.lens.types import STATUS_TEXT, FitOptions, Fits

__all__ = ["KERNEL_VERSION", "STATUS_TEXT", "FitOptions", "Fits", "constant", "fit", "model", "residual"]

# Enters the fingerprint of every run: raise it when a fit gives other numbers.
KERNEL_VERSION = "1"
