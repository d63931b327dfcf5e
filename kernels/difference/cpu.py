"""Image subtraction on the CPU: SciPy's float32 transforms with the point-wise work fused between them.

A two-dimensional transform is one along the rows and one along the columns. Between the latter, all that is
done to a frequency concerns this frequency alone, so that a few columns at a time go forth, through the
filters and back while they are in the cache. Planes over frequencies that are used again are therefore kept
as blocks of columns, [..., n_blocks, ny, 2 * width], real and imaginary parts in turn (the compiler makes
vector code of floats), the last block filled up with zeros.
"""

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.difference import cpu_fft
from skytrawl.kernels.difference import filters as plain
from skytrawl.kernels.difference.constants import LEAST_VARIANCE, OWN_FROM, OWN_FULL, SLOPE_SIGMAS
from skytrawl.kernels.difference.cpu_fill import add_doubt, lost
from skytrawl.kernels.difference.types import Difference, Filters, Prepared, Side
from skytrawl.kernels.jit import njit

_COLUMNS = 64  # of a block, about: fits the cache with the blocks it is combined with
_ROWS = 256  # transformed at a time
F32 = np.float32
LEAST, FROM2, SLOPE2 = F32(LEAST_VARIANCE), F32(OWN_FROM**2), F32(SLOPE_SIGMAS**2)
RAMP = F32(1.0 / (OWN_FULL**2 - OWN_FROM**2))


@njit(fastmath=True, error_model="numpy")
def _mix(n, v, r, w, a, b, kn2, kr2, root, split, d, s, t):  # type: ignore[no-untyped-def]
    """Transforms of both images and variances to D, S (or S_N and S_R); the variance in place of `v`."""
    for y in range(n.shape[0]):
        n_, v_, r_, w_, a_, b_ = n[y], v[y], r[y], w[y], a[y], b[y]
        kn_, kr_, root_, d_, s_, t_ = kn2[y], kr2[y], root[y], d[y], s[y], t[y]
        for x in range(n.shape[1] // 2):
            i, j = 2 * x, 2 * x + 1
            new_r, new_i = a_[i] * n_[i] - a_[j] * n_[j], a_[i] * n_[j] + a_[j] * n_[i]
            ref_r, ref_i = b_[i] * r_[i] - b_[j] * r_[j], b_[i] * r_[j] + b_[j] * r_[i]
            # a b root; the score takes its conjugate
            c_r, c_i = (a_[i] * b_[i] - a_[j] * b_[j]) * root_[i], (a_[i] * b_[j] + a_[j] * b_[i]) * root_[i]
            d_r, d_i = new_r - ref_r, new_i - ref_i
            d_[i], d_[j] = d_r, d_i
            if split:
                s_[i], s_[j] = c_r * new_r + c_i * new_i, c_r * new_i - c_i * new_r
                t_[i], t_[j] = c_r * ref_r + c_i * ref_i, c_r * ref_i - c_i * ref_r
            else:
                s_[i], s_[j] = c_r * d_r + c_i * d_i, c_r * d_i - c_i * d_r
            var_r = kn_[i] * v_[i] - kn_[j] * v_[j] + kr_[i] * w_[i] - kr_[j] * w_[j]
            var_i = kn_[i] * v_[j] + kn_[j] * v_[i] + kr_[i] * w_[j] + kr_[j] * w_[i]
            v_[i], v_[j] = var_r, var_i


@njit(fastmath=True, error_model="numpy")
def _finish(score, variance, extra, blank, noise, own_n, own_r, out):  # type: ignore[no-untyped-def]
    """S_corr from the score and its variance, which is kept above zero (see `zogy._null_variance`)."""
    least = blank * F32(1e-3)
    one, zero = F32(1.0), F32(0.0)
    for y in range(score.shape[0]):
        s_, v_, o_ = score[y], variance[y], out[y]
        for x in range(score.shape[1]):
            s, v = s_[x], max(v_[x], least)
            v_[x] = v
            ramp = min(max((s * s / v - FROM2) * RAMP, zero), one)
            above = own_n if s > zero else -own_r
            usual = max(v - noise * s, LEAST * min(v, blank))
            o_[x] = max(usual - ramp * (above - noise) * s, min(usual, blank))
        if extra.shape[0] > 0:
            e_ = extra[y]
            for x in range(score.shape[1]):
                o_[x] += e_[x]
        for x in range(score.shape[1]):
            o_[x] = s_[x] / np.sqrt(o_[x])


@njit(fastmath=True, error_model="numpy")
def _split(s_n, s_r, dx2, dy2, slope_x, slope_y, relative2, extra):  # type: ignore[no-untyped-def]
    """Score in place of `s_n`, mean in place of `s_r`; variance of the alignment (`zogy._alignment`)."""
    ny, nx = s_n.shape
    half, zero, two = F32(0.5), F32(0.0), F32(2.0)
    for y in range(ny):
        for x in range(nx):
            p, q = s_n[y, x], s_r[y, x]
            common = max(min(p, q), zero)
            extra[y, x] = relative2 * common * common
            s_n[y, x], s_r[y, x] = p - q, half * (p + q)
    if dx2 == zero and dy2 == zero:
        return
    for y in range(ny):
        middle, up, down, e_ = s_r[y], s_r[(y + 1) % ny], s_r[(y - 1) % ny], extra[y]
        for x in range(nx):
            east = middle[x + 1] if x + 1 < nx else middle[0]
            west = middle[x - 1] if x > 0 else middle[nx - 1]
            gx, gy = half * (east - west), half * (up[x] - down[x])
            curved = dx2 * (east + west - two * middle[x]) + dy2 * (up[x] + down[x] - two * middle[x])
            steep = dx2 * max(gx * gx - SLOPE2 * slope_x, zero) + dy2 * max(gy * gy - SLOPE2 * slope_y, zero)
            e_[x] += two * steep + F32(0.75) * curved * curved


def takes(*sides: Side | Prepared) -> bool:
    """Whether both sides are float32 NumPy arrays, which the compiled path is for."""
    images = [side.side.image if isinstance(side, Prepared) else side.image for side in sides]
    return all(isinstance(image, np.ndarray) and image.dtype == np.float32 for image in images)


def _parts(nx: int) -> list[slice]:
    """Columns of the half plane of frequencies, in blocks of nearly one width."""
    columns = nx // 2 + 1
    width = -(-columns // max(1, round(columns / _COLUMNS)))
    return [slice(begin, min(begin + width, columns)) for begin in range(0, columns, width)]


def _blocked(plane: NDArray[Any], nx: int) -> NDArray[np.float32]:
    """Blocks of a plane over frequencies [..., ny, nx // 2 + 1]; a real one stands in both parts."""
    parts = _parts(nx)
    width = parts[0].stop
    out = np.zeros((*plane.shape[:-2], len(parts), plane.shape[-2], width), np.complex64)
    for k, part in enumerate(parts):
        block = plane[..., part] if np.iscomplexobj(plane) else plane[..., part] * np.complex64(1 + 1j)
        out[..., k, :, : part.stop - part.start] = block
    return out.view(np.float32)


@njit(error_model="numpy")
def _ratios(pn, pr, sn, sr, fn, fr, begin, a, b, root):  # type: ignore[no-untyped-def]
    """Filters of one block of columns from the spectra of the PSFs (see `filters._ratios`)."""
    zero_point = fn * fr / np.sqrt(sn**2 * fr**2 + sr**2 * fn**2)
    cn, cr = sr**2 * fn**2, sn**2 * fr**2
    least = plain.FLOOR * (cr * abs(pr[0, 0]) ** 2 + cn * abs(pn[0, 0]) ** 2)
    for y in range(pn.shape[0]):
        for x in range(min(a.shape[1] // 2, pn.shape[1] - begin)):
            p, q = pn[y, begin + x], pr[y, begin + x]
            den = cr * (q.real**2 + q.imag**2) + cn * (p.real**2 + p.imag**2)
            value = np.sqrt(den)
            inverse = 1.0 / (zero_point * value) if den > least else 0.0
            a[y, 2 * x], a[y, 2 * x + 1] = fr * inverse * q.real, fr * inverse * q.imag
            b[y, 2 * x], b[y, 2 * x + 1] = fn * inverse * p.real, fn * inverse * p.imag
            root[y, 2 * x] = root[y, 2 * x + 1] = value * zero_point**3


def _blocks_of(
    science: Side,
    reference: Side,
    squares: list[Any],
    numbers: tuple[Any, ...],
    shape: tuple[int, int],
    _: Any,
) -> dict[str, NDArray[np.float32]]:
    """As `filters.whole_planes`, in blocks."""
    responses = [plain.spectrum(np, np.asarray(side.psf), shape) for side in (science, reference)]
    values = [np.asarray(number)[..., 0, 0] if np.ndim(number) else number for number in numbers]
    lead = np.broadcast_shapes(*(r.shape[:-2] for r in responses), *(np.shape(v) for v in values))
    parts = _parts(shape[1])
    out = {
        name: np.zeros((*lead, len(parts), shape[0], 2 * parts[0].stop), np.float32)
        for name in ("a", "b", "root")
    }
    pn, pr = (np.broadcast_to(r, lead + r.shape[-2:]) for r in responses)
    for index in np.ndindex(lead):
        here = [float(np.broadcast_to(v, lead)[index]) for v in values]
        for k, part in enumerate(parts):
            blocks = [plane[index][k] for plane in out.values()]
            _ratios(pn[index], pr[index], *here, part.start, *blocks)  # type: ignore[call-arg]
    for name, square in zip(("kn2", "kr2"), squares, strict=True):
        out[name] = _blocked(plain.spectrum(np, square, shape, np.complex64), shape[1])
    return out


def filters(science: Side, reference: Side, shape: tuple[int, int]) -> Filters:
    """Make the filters, as `filters.filters`, with planes in blocks."""
    return plain.filters(science, reference, shape, xp=np, planes=_blocks_of)


def prepare(side: Side) -> Prepared:
    """Transform an image and its variance, as `zogy.prepare`, into blocks."""
    from scipy.fft import rfft2

    ny, nx = side.image.shape[-2:]
    image, variance = (rfft2(_float32(plane), workers=1) for plane in (side.image, side.variance))
    return Prepared(_blocked(image, nx), _blocked(variance, nx), (ny, nx), side)


def _float32(array: Any) -> NDArray[np.float32]:
    return np.asarray(array, dtype=np.float32)


class _Memory(threading.local):
    """Working memory of a thread, used again while tiles have one shape: fresh memory costs as much time."""

    shape: tuple[int, ...] = ()
    half: NDArray[np.complex64]
    spare: NDArray[np.complex64]

    def of(self, shape: tuple[int, int], width: int) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
        """Four planes over half the frequencies, and five blocks of columns."""
        if self.shape != shape:
            self.half = np.empty((4, shape[0], shape[1] // 2 + 1), np.complex64)
            self.spare = np.empty((5, shape[0] * width), np.complex64)
            self.shape = shape
        return self.half, self.spare


_memory = _Memory()
_NOTHING = np.empty((0, 0), np.float32)


def _planes(
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    blocks: list[NDArray[np.float32]],
    split: bool,
    numbers: tuple[Any, ...] | None,
) -> list[NDArray[np.float32]]:
    """D, S (or S_N, S_R), variance and S_corr of one tile.

    `blocks` are those of the reference and of the filters. Without `numbers`, those of `_finish`, S_corr is
    left empty.
    """
    ny, nx = image.shape
    parts = _parts(nx)
    half, spare = _memory.of((ny, nx), parts[0].stop)
    rows = [slice(begin, min(begin + _ROWS, ny)) for begin in range(0, ny, _ROWS)]
    for row in rows:
        cpu_fft.rows(image[row], half[0, row])
        cpu_fft.rows(variance[row], half[1, row])
    # Where D, S (S_N), S_R and the variance go.
    out = [half[0], half[2], half[3], half[1]] if split else [half[0], half[2], half[1]]
    for k, part in enumerate(parts):
        shape = (ny, part.stop - part.start)
        n, v, d, s, t = (buffer[: shape[0] * shape[1]].reshape(shape) for buffer in spare)
        cpu_fft.columns(half[0, :, part], n, True)
        cpu_fft.columns(half[1, :, part], v, True)
        here = [block[k] for block in blocks]
        _mix(*_floats(n, v), *here, split, *_floats(d, s, t))  # type: ignore[call-arg]
        for plane, block in zip(out, (d, s, t, v) if split else (d, s, v), strict=True):
            cpu_fft.columns(block, plane[:, part], False)
    # In one piece, which the system gives faster; the last is for S_corr.
    planes = list(np.empty((len(out) + 1, ny, nx), np.float32))
    for row in rows:
        for plane, hat in zip(planes, out, strict=False):
            cpu_fft.rows_back(hat[row], plane[row])
        if numbers is not None:
            score, noise, scorr = (plane[row] for plane in planes[1:])
            _finish(score, noise, _NOTHING, *numbers, scorr)  # type: ignore[call-arg]
    return planes


def _floats(*arrays: NDArray[np.complex64]) -> list[NDArray[np.float32]]:
    return [array.view(np.float32) for array in arrays]


def zogy(
    science: Side,
    reference: Side | Prepared,
    f: Filters | None,
    shift_error: tuple[Any, Any] | None,
    relative_error: Any,
) -> Difference:
    """Subtract one tile or a batch of tiles; parameters as `zogy.zogy`."""
    ready = reference if isinstance(reference, Prepared) else prepare(reference)
    shape = ready.shape
    f = filters(science, ready.side, shape) if f is None else f
    lead = np.broadcast_shapes(science.image.shape[:-2], ready.image.shape[:-3], f.a.shape[:-3])
    split = shift_error is not None or relative_error is not None
    dx, dy = shift_error if shift_error is not None else (0.0, 0.0)
    relative = 0.0 if relative_error is None else relative_error

    def at(array: Any, index: tuple[int, ...], trailing: int) -> Any:
        array = np.asarray(array)
        return np.broadcast_to(array, lead + array.shape[array.ndim - trailing :])[index]

    tiles: list[list[NDArray[np.float32]]] = []
    for index in np.ndindex(lead):
        image, variance = (at(_float32(p), index, 2) for p in (science.image, science.variance))
        blocks = [at(p, index, 3) for p in (ready.image, ready.variance, f.a, f.b, f.kn2, f.kr2, f.root)]
        numbers = tuple(F32(at(v, index, 0)) for v in (f.blank_variance, f.self_noise, f.self_n, f.self_r))
        doubts = [
            (s.doubt, k) for s, k in ((science, f.square_n), (ready.side, f.square_r)) if s.doubt is not None
        ]
        simple = not split and not doubts
        d, score, *mean, noise, scorr = _planes(image, variance, blocks, split, numbers if simple else None)
        doubt = np.zeros(shape if doubts else (0, 0), np.float32)
        for plane, square in doubts:
            add_doubt(at(plane, index, 2), at(square, index, 2), doubt)
        extra = doubt
        if split:
            extra = np.empty_like(d)
            errors = (
                *(at(v, index, 0) ** 2 for v in (dx, dy)),
                *at(f.slope, index, 1),
                at(relative, index, 0) ** 2,
            )
            _split(score, mean[0], *(F32(v) for v in errors), extra)  # type: ignore[call-arg]
            extra = extra + doubt if doubts else extra
        if not simple:
            _finish(score, noise, extra, *numbers, scorr)  # type: ignore[call-arg]
        if doubts:
            noise += doubt
        tiles.append([d, score, noise, scorr])
    d, score, noise, scorr = (
        np.stack(planes).reshape(lead + shape) if lead else planes[0] for planes in zip(*tiles, strict=True)
    )
    bad = np.zeros(lead + shape, np.bool_)
    for side in (science, ready.side):
        if side.bad is not None:
            bad |= side.bad
    for index in np.ndindex(lead) if bad.any() else ():
        bad[index] = lost(bad[index], at(f.weight, index, 2))
    return Difference(d, f.psf_d, score, noise, scorr, f.f_s, f.blank_variance, bad)
