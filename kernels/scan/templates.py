"""Templates of the grid scans: shapes of time in units of teff, built in or given by the user.

Every template is turned so that a positive amplitude is a brightening.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from skytrawl.errors import ParameterError

BELLS = ("pspl0", "pspl1")

# Rise time over decay time of the flare template.
FLARE_RISE = 0.1


@dataclass(frozen=True)
class Template:
    """One shape.

    Parameters
    ----------
    name : str
    function : callable
        Value at ``x = (t - t0) / teff``, a float of a float, finite for every finite x. Plain Python that
        Numba compiles (`math` and comparisons).
    cuda : str or None
        The same as an expression of CUDA C in the double ``x``; None where there is no CUDA version.
    smooth : bool
        Whether the value changes little from one t0 of the default grid to the next, for all x.
    """

    name: str
    function: Callable[[float], float]
    cuda: str | None = None
    smooth: bool = False

    @property
    def compiled(self) -> Any:
        """`function`, compiled by Numba."""
        return _compiled(self.function)

    @property
    def fill(self) -> Any:
        """Compiled ``fill(tau, out, n, t0, 1 / teff)`` on pointers, of one type for all templates."""
        return _fill(self.function)


def pspl0(x: float) -> float:
    """Limit u0 -> 0 of a single lens, ``Q**-0.5`` with Q = 1 + x^2 (Kim et al. 2018, AJ 155, 76, eq. 3)."""
    return 1.0 / math.sqrt(1.0 + x * x)


def pspl1(x: float) -> float:
    """Single lens of u0 = 1, ``(Q + 2) / sqrt(Q (Q + 4))`` (Kim et al. 2018, eq. 3, in another form)."""
    q = 1.0 + x * x
    return (q + 2.0) / math.sqrt(q * (q + 4.0))


def flare(x: float) -> float:
    """Exponential rise of a tenth of teff up to t0, then exponential decay of one teff."""
    return math.exp(-x) if x >= 0.0 else math.exp(x / FLARE_RISE)


def box(x: float) -> float:
    """1 where |x| <= 1, else 0: a transit has a negative amplitude."""
    return 1.0 if abs(x) <= 1.0 else 0.0


def step(x: float) -> float:
    """Sign of x: a lasting rise by twice the amplitude at t0."""
    return 1.0 if x > 0.0 else (-1.0 if x < 0.0 else 0.0)


_TEMPLATES = {
    t.name: t
    for t in (
        Template("pspl0", pspl0, "rsqrt(1.0 + x * x)", True),
        Template("pspl1", pspl1, "((3.0 + x * x) * rsqrt((1.0 + x * x) * (5.0 + x * x)))", True),
        Template("flare", flare, f"(x >= 0.0 ? exp(-x) : exp(x / {FLARE_RISE}))"),
        Template("box", box, "(fabs(x) <= 1.0 ? 1.0 : 0.0)"),
        Template("step", step, "(x > 0.0 ? 1.0 : (x < 0.0 ? -1.0 : 0.0))"),
    )
}


def template(
    name: str, function: Callable[[float], float], cuda: str | None = None, smooth: bool = False
) -> Template:
    """Make a template and let `bank` find it by its name in this process.

    Parameters
    ----------
    name, function, cuda, smooth
        As in `Template`; a name that is taken is refused.

    Raises
    ------
    ParameterError
        If the name is taken by another function, or a value between x = -3 and 3 is not finite.
    """
    function = getattr(function, "py_func", function)
    made = Template(name, function, cuda, smooth)
    known = _TEMPLATES.get(name)
    if known is not None and known != made:
        raise ParameterError(f"template {name!r} exists already: choose another name")
    for k in range(-30, 31):
        if not math.isfinite(function(k / 10)):
            raise ParameterError(f"template {name!r} is not finite at x = {k / 10}")
    _TEMPLATES[name] = made
    return made


def bank(templates: Iterable[str | Template] = BELLS) -> tuple[Template, ...]:
    """Templates by their names.

    Raises
    ------
    ParameterError
        If a name is unknown or the bank is empty.
    """
    found = []
    for each in templates:
        if isinstance(each, Template):
            found.append(each)
        elif each in _TEMPLATES:
            found.append(_TEMPLATES[each])
        else:
            raise ParameterError(f"no template {each!r}: choose from {', '.join(sorted(_TEMPLATES))}")
    if not found:
        raise ParameterError("a bank needs one template at least")
    return tuple(found)


@lru_cache(maxsize=256)
def _compiled(function: Callable[[float], float]) -> Any:
    import numba

    return numba.njit(error_model="numpy", nogil=True)(function)


@lru_cache(maxsize=256)
def _fill(function: Callable[[float], float]) -> Any:
    import ctypes

    import numba

    value = _compiled(function)

    def fill(tau, out, n, t0, inverse):  # type: ignore[no-untyped-def]
        for i in range(n):
            out[i] = value((tau[i] - t0) * inverse)

    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        pointer = ctypes.POINTER(ctypes.c_double)
        return lambda tau, out, *rest: fill(tau.data_as(pointer), out.data_as(pointer), *rest)
    return numba.cfunc("void(CPointer(f8), CPointer(f8), i8, f8, f8)", error_model="numpy")(fill)
