"""What the CUDA kernels need of a device, and the device through CuPy."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# Without contraction into fused multiply-adds every expression rounds as on the CPU.
COMPILE_OPTIONS = ("--std=c++17", "--fmad=false")


class Launcher(Protocol):
    """What the host side needs of a device."""

    def put(self, array: NDArray[Any]) -> Any:
        """Copy an array to the device."""

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Make an array of zeros on the device."""

    def get(self, array: Any) -> NDArray[Any]:
        """Copy an array back."""

    def launch(
        self, name: str, n_blocks: int, n_threads: int, shared: int, arguments: tuple[Any, ...]
    ) -> None:
        """Launch a kernel of the source; the arguments are device arrays and NumPy scalars."""


class CupyLauncher:  # pragma: no cover - needs a CUDA device; the tests marked gpu run it
    """The current CUDA device, through CuPy, with the kernels of one source.

    Parameters
    ----------
    code : str, CUDA C++
    """

    def __init__(self, code: str) -> None:
        import cupy

        self.cupy = cupy
        self.module = cupy.RawModule(code=code, options=COMPILE_OPTIONS)

    def put(self, array: NDArray[Any]) -> Any:
        """Copy an array to the device."""
        return self.cupy.asarray(array)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Make an array of zeros on the device."""
        return self.cupy.zeros(shape, dtype)

    def get(self, array: Any) -> NDArray[Any]:
        """Copy an array back."""
        return np.asarray(self.cupy.asnumpy(array))

    def launch(
        self, name: str, n_blocks: int, n_threads: int, shared: int, arguments: tuple[Any, ...]
    ) -> None:
        """Launch a kernel of the source."""
        self.module.get_function(name)((n_blocks,), (n_threads,), arguments, shared_mem=shared)
