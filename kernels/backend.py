"""Which backend computes: resolved explicitly, once, on the machine that computes."""

from typing import Literal, get_args

from skytrawl.errors import BackendUnavailableError, ParameterError

Backend = Literal["auto", "cpu", "cuda"]
ResolvedBackend = Literal["cpu", "cuda"]


def cuda_problem() -> str | None:
    """Say what keeps CUDA from being used here, or None where it is usable.

    CuPy imports without a driver, so that an importable CuPy is no proof of a GPU: the device is asked for.
    """
    try:
        import cupy
    except ImportError as error:
        return f"CuPy cannot be imported ({error})"
    if not cupy.cuda.is_available():
        return "CuPy is installed but finds no CUDA device or driver"
    return None


def resolve(backend: Backend = "auto") -> ResolvedBackend:
    """Resolve a backend name to the one that computes.

    Parameters
    ----------
    backend : {"auto", "cpu", "cuda"}
        ``"auto"`` takes CUDA where a device is usable and the CPU elsewhere; the other two never fall back.

    Returns
    -------
    {"cpu", "cuda"}

    Raises
    ------
    ParameterError
        For any other name.
    BackendUnavailableError
        For ``"cuda"`` on a machine where it is not usable.
    """
    if backend not in get_args(Backend):
        raise ParameterError(f"backend {backend!r} is unknown: choose 'auto', 'cpu' or 'cuda'")
    if backend == "cpu":
        return "cpu"
    problem = cuda_problem()
    if problem is None:
        return "cuda"
    if backend == "auto":
        return "cpu"
    raise BackendUnavailableError(
        f"backend 'cuda' is not usable on this machine: {problem}. Run on a GPU worker with the extra "
        "'skytrawl[gpu]' installed, or choose backend='cpu'"
    )
