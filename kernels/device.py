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


# Functions of the array API that take a device, and those that take `stable`.
_CREATION = frozenset(
    {"arange", "asarray", "empty", "empty_like", "eye", "full", "full_like", "linspace"}
    | {"ones", "ones_like", "zeros", "zeros_like"}
)
_SORTS = frozenset({"argsort", "sort"})


class DeviceNamespace:
    """CuPy's functions under the signatures of the array API.

    CuPy creates arrays on the current device and takes no ``device``; its sorts are stable and take no
    ``stable``. All else is passed on as it is.

    Parameters
    ----------
    library : module, CuPy
    """

    def __init__(self, library: Any) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._library, name)
        unknown = "device" if name in _CREATION else "stable" if name in _SORTS else None
        if unknown is None:
            return function

        def call(*arguments: Any, **options: Any) -> Any:
            options.pop(unknown, None)
            return function(*arguments, **options)

        return call


def device_namespace() -> DeviceNamespace:  # pragma: no cover - needs a CUDA device
    """The array namespace of the current CUDA device."""
    import cupy

    return DeviceNamespace(cupy)


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
