"""Calls of templates through their address, so that one compiled scan serves every bank."""

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import cfunc, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from skytrawl.kernels.scan.templates import Template


def _call(typingctx: Any, address: Any, u: Any) -> Any:

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.DoubleType(), [ir.DoubleType()])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])

    return types.float64(types.int64, types.float64), codegen


# call(address, u): value at u of the function ``double(double)`` at this address, in compiled code.
call: Any = intrinsic(_call)


@lru_cache(maxsize=256)
def _c_function(template: Template) -> Any:
    value = template.compiled

    @cfunc("float64(float64)", error_model="numpy")
    def function(u):  # type: ignore[no-untyped-def]
        return value(u)

    return function


def address_of(template: Template) -> int:
    """Address of a template compiled as ``double(double)``; valid as long as this process lives."""
    return int(_c_function(template).address)


def values(template: Template, u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values of a template, of the shape of `u`."""
    function = _c_function(template).ctypes
    return np.array([function(x) for x in u.ravel()]).reshape(u.shape)
