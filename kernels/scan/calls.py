"""Calls of templates through their address, so that one compiled scan serves every bank."""

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import cfunc, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from skytrawl.kernels.jit import config
from skytrawl.kernels.scan.templates import Template

_DOUBLE = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)


def _call(typingctx: Any, address: Any, u: Any) -> Any:

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.DoubleType(), [ir.DoubleType()])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])

    return types.float64(types.int64, types.float64), codegen


def _interpreted(address: int, u: float) -> float:
    return _DOUBLE(int(address))(u)


# call(address, u): value at u of the function ``double(double)`` at this address, in compiled code, and in
# interpreted code where NUMBA_DISABLE_JIT is set.
call: Any = _interpreted if config.DISABLE_JIT else intrinsic(_call)


@lru_cache(maxsize=256)
def _c_function(template: Template) -> tuple[Any, Any]:
    """`template` as a function of ctypes, and what has to live as long."""
    value = template.compiled

    def function(u):  # type: ignore[no-untyped-def]
        return value(u)

    if config.DISABLE_JIT:  # Numba compiles no call of a function that it has not compiled
        return _DOUBLE(function), None
    made = cfunc("float64(float64)", error_model="numpy")(function)
    return made.ctypes, made


def address_of(template: Template) -> int:
    """Address of a template compiled as ``double(double)``; valid as long as this process lives."""
    return int(ctypes.cast(_c_function(template)[0], ctypes.c_void_p).value or 0)


def values(template: Template, u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values of a template, of the shape of `u`."""
    function = _c_function(template)[0]
    return np.array([function(x) for x in u.ravel()]).reshape(u.shape)
