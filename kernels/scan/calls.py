"""Calls of templates through their address, so that one compiled scan serves every bank."""

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from skytrawl.kernels.jit import njit


@intrinsic  # type: ignore[misc]
def call(typingctx: Any, address: Any, u: Any) -> Any:
    """Value at `u` of the function ``double(double)`` at `address`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.DoubleType(), [ir.DoubleType()])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])

    return types.float64(types.int64, types.float64), codegen


@njit()
def _high_magnification(u):  # type: ignore[no-untyped-def]
    return 1.0 / np.sqrt(1.0 + u * u)


@njit()
def _low_magnification(u):  # type: ignore[no-untyped-def]
    q = 1.0 + u * u
    return (q + 2.0) / np.sqrt(q * (q + 4.0))


TEMPLATES = {"pspl0": _high_magnification, "pspl1": _low_magnification}


@lru_cache(maxsize=256)
def _compiled(function: Any) -> Any:
    return cfunc("float64(float64)")(function.py_func)


def address_of(name: str) -> int:
    return int(_compiled(TEMPLATES[name]).address)


def values(name: str, u: NDArray[np.float64]) -> NDArray[np.float64]:
    f = TEMPLATES[name]
    return np.array([f(x) for x in u.ravel()]).reshape(u.shape)
