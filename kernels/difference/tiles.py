"""Subtraction of whole images: tiles with overlap, in each of which the PSF is taken as constant.

Tiles are periodic, so that each has a border as wide as the kernels reach; the images are continued beyond
their edges by filled pixels. Next to the seams the values of the tiles are mixed, with weights that change
from one tile to the next over some pixels: where the PSF varies, nothing jumps.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from skytrawl.errors import ParameterError
from skytrawl.kernels.difference.fill import fill
from skytrawl.kernels.difference.types import Array, Difference, Prepared, Side
from skytrawl.kernels.difference.zogy import prepare, zogy
from skytrawl.kernels.flags import UNUSABLE
from skytrawl.kernels.namespace import namespace
from skytrawl.kernels.psf import PsfModel
from skytrawl.kernels.resample.types import HasPlanes

_BLEND = 8  # pixels to either side of a seam over which two tiles are mixed
_STRETCH = 1.15  # a tile may be larger than asked for by this, rather than cut in two
_STEADY = 0.01  # part of a flux by which the PSF may be wrong in the corner of a tile


@dataclass(frozen=True)
class Layout:
    """How an image is cut.

    Attributes
    ----------
    shape : (ny, nx), of the image
    tile : (ny, nx), of every tile with its borders
    border : int, pixels
    y, x : tuple of int, where the cores begin, and the end of the last
    """

    shape: tuple[int, int]
    tile: tuple[int, int]
    border: int
    y: tuple[int, ...]
    x: tuple[int, ...]

    @property
    def places(self) -> list[tuple[int, int]]:
        """Row and column of the tiles."""
        return [(i, j) for i in range(len(self.y) - 1) for j in range(len(self.x) - 1)]


def layout(shape: tuple[int, int], tile: int = 1024, border: int = 40) -> Layout:
    """Cut an image into tiles of one shape, of about `tile` pixels with their borders.

    Raises
    ------
    ParameterError
        If the border is narrower than the strip in which tiles are mixed, or leaves no core.
    """
    from scipy.fft import next_fast_len

    if border < 2 * _BLEND or tile < 3 * border:
        raise ParameterError(
            f"tiles of {tile} px with a border of {border} px: the border must be {2 * _BLEND} px at least, "
            f"and the tile three borders"
        )
    sides, edges = [], []
    for n in shape:
        count = -(-n // int(_STRETCH * tile - 2 * border))
        cuts = tuple(round(k * n / count) for k in range(count + 1))
        widest = max(b - a for a, b in pairwise(cuts))
        sides.append(next_fast_len(widest + 2 * border, real=True))
        edges.append(cuts)
    return Layout((shape[0], shape[1]), (sides[0], sides[1]), border, edges[0], edges[1])


def fitting_tile(shape: tuple[int, int], psfs: tuple[PsfModel, ...], most: int, border: int) -> int:
    """Side of tiles in whose corners the PSF of their middle gives fluxes right to 1 %, if not too small.

    Parameters
    ----------
    shape : (ny, nx)
    psfs : tuple of PsfModel
    most : int
        Pixels, borders included; the answer where the PSFs vary so little.
    border : int
        Tiles are not cut below six borders, where they would be mostly border.

    Returns
    -------
    int
    """
    least, tile = 6 * border, most
    while tile * 0.7 >= least and any(_unsteady(psf, layout(shape, tile, border)) for psf in psfs):
        tile = int(tile * 0.7)
    return tile


def _unsteady(psf: PsfModel, cut: Layout) -> bool:
    """Whether fluxes in the corner of a tile would be wrong: sum(P P0) / sum(P0^2), P0 of its middle."""
    if psf.degree == 0:
        return False
    for i, j in cut.places:
        y, x = ([e[k] - 0.5, (e[k] + e[k + 1] - 1) / 2, e[k + 1] - 0.5] for e, k in ((cut.y, i), (cut.x, j)))
        middle, *corners = psf.at([x[1], x[0], x[2], x[0], x[2]], [y[1], y[0], y[0], y[2], y[2]])
        own = float((middle * middle).sum())
        if any(abs(float((corner * middle).sum()) / own - 1) > _STEADY for corner in corners):
            return True
    return False


@dataclass(frozen=True, eq=False)
class TiledSide:
    """An image cut into tiles, its bad pixels filled, and where it is a reference the transforms as well.

    Attributes
    ----------
    layout : Layout
    tiles : list of Side or Prepared, in the order of ``layout.places``
    """

    layout: Layout
    tiles: list[Any]


def _padded(plane: Array, value: Any, cut: Layout, xp: Any) -> Array:
    """A plane continued by a constant to where tiles reach."""
    ny, nx = cut.shape
    b = cut.border
    shape = (cut.y[-2] + cut.tile[0], cut.x[-2] + cut.tile[1])
    out = xp.full(shape, value, dtype=plane.dtype, device=plane.device)
    out[b : b + ny, b : b + nx] = plane
    return out


def tile_side(
    planes: HasPlanes,
    psf: PsfModel,
    cut: Layout,
    *,
    sigma: Any,
    gain: float | None = None,
    noise_correlation: float = 1.0,
    keep: bool = False,
    xp: Any = None,
) -> TiledSide:
    """Cut an image into tiles and fill its bad pixels.

    Parameters
    ----------
    planes : image, variance and mask [ny, nx], background subtracted; see `subtract`
    psf : PsfModel
    cut : Layout
    sigma, gain, noise_correlation : see `subtract`
    keep : bool
        Transform the tiles, to subtract them from several images.
    xp : array namespace, optional

    Returns
    -------
    TiledSide

    Raises
    ------
    ParameterError
        If the planes do not have the shape of the layout.
    """
    lib = namespace(planes.image, xp)
    image, variance = (lib.astype(p, lib.float32) for p in (planes.image, planes.variance))
    device = image.device
    for name, plane in (("image", image), ("variance", variance), ("mask", planes.mask)):
        if tuple(plane.shape) != cut.shape:
            raise ParameterError(f"the {name} has the shape {tuple(plane.shape)}, not {cut.shape}")
    usable = lib.isfinite(image) & lib.isfinite(variance) & (variance > 0)
    usable = usable & ((lib.astype(planes.mask, lib.int32) & UNUSABLE) == 0)
    level = lib.asarray(sigma, dtype=lib.float32, device=device) * noise_correlation**0.5
    if level.ndim:
        usable = usable & lib.isfinite(level) & (level > 0)
        level = _padded(lib.where(usable, level, lib.zeros_like(level)), 0.0, cut, lib)
    bad = _padded(~usable, True, cut, lib)

    def typical(window: Any) -> Array:
        """Noise of the sky over the good pixels."""
        if not level.ndim:
            return level
        total = lib.sum(level[window])
        count = lib.sum(lib.astype(~bad[window], lib.float32))
        # Where nothing is good, nothing will be believed either.
        return lib.where(count > 0, total / lib.maximum(count, lib.ones_like(count)), lib.ones_like(count))

    zero = lib.zeros_like(image)
    ny, nx = cut.shape
    # Filled as one, so that it does not depend on the tiles.
    whole = fill(
        Side(
            image=_padded(lib.where(usable, image, zero), 0.0, cut, lib),
            variance=_padded(lib.where(usable, variance * noise_correlation, zero), 0.0, cut, lib),
            bad=bad,
            psf=lib.asarray(psf.at((nx - 1) / 2, (ny - 1) / 2), device=device),
            sigma=typical(slice(None)),
            gain=gain,
        ),
        xp=xp,
    )
    tiles: list[Any] = []
    for i, j in cut.places:
        window = (slice(cut.y[i], cut.y[i] + cut.tile[0]), slice(cut.x[j], cut.x[j] + cut.tile[1]))
        y, x = ((e[k] + e[k + 1] - 1) / 2 for e, k in ((cut.y, i), (cut.x, j)))
        side = replace(
            whole,
            image=whole.image[window],
            variance=whole.variance[window],
            doubt=None if whole.doubt is None else whole.doubt[window],
            bad=bad[window],
            psf=lib.asarray(psf.at(x, y), device=device),
            sigma=typical(window),
        )
        tiles.append(prepare(side, xp=xp) if keep else side)
    return TiledSide(cut, tiles)


def _weights(cut: Layout, axis: int, k: int, like: Array, xp: Any) -> Array:
    """Weights of tile `k` along an axis, over its core and the strips at its seams."""
    edges, n = (cut.y, cut.x)[axis], cut.shape[axis]
    begin, end = edges[k], edges[k + 1]
    first, last = (0 if begin == 0 else begin - _BLEND), (n if end == n else end + _BLEND)
    at = xp.arange(first, last, dtype=xp.float32, device=like.device) + 0.5
    weight = xp.ones_like(at)
    if begin > 0:
        weight = xp.minimum(weight, xp.maximum((at - (begin - _BLEND)) / (2 * _BLEND), xp.zeros_like(at)))
    if end < n:
        weight = xp.minimum(weight, xp.maximum((end + _BLEND - at) / (2 * _BLEND), xp.zeros_like(at)))
    return weight


def subtract(
    science: HasPlanes,
    reference: HasPlanes | TiledSide,
    psf_science: PsfModel,
    psf_reference: PsfModel | None = None,
    *,
    sigma_science: Any,
    sigma_reference: Any = None,
    scale: float = 1.0,
    shift_error: tuple[float, float] | None = None,
    relative_error: float | None = None,
    gain_science: float | None = None,
    gain_reference: float | None = None,
    noise_correlation: tuple[float, float] = (1.0, 1.0),
    tile: int = 1024,
    border: int = 40,
    xp: Any = None,
) -> Difference:
    """Subtract a reference from a science image on the same pixel grid.

    Parameters
    ----------
    science, reference : image (background subtracted), variance (total, (image units)^2) and mask [ny, nx]
        For example `skytrawl.kernels.resample.Planes`. Pixels with a bit of `flags.UNUSABLE` or without a
        finite value and a positive variance are not looked at. The reference may be a `TiledSide`, made with
        ``keep=True`` for several science images.
    psf_science, psf_reference : PsfModel
    sigma_science, sigma_reference : float or float[ny, nx], image units
        Noise of the empty sky.
    scale : float, flux in the science image over flux in the reference of the same star
    shift_error, relative_error : see `zogy`
    gain_science, gain_reference : float, optional, e- per image unit
        Where the variance comes from the counts of the image itself; see `Side`.
    noise_correlation : (science, reference)
        Power of the noise at low frequencies over the variance of a pixel.
    tile, border : int, pixels
        Size of a tile, about, and how much of it on each side belongs to its neighbours.
    xp : array namespace, optional; see `zogy`

    Returns
    -------
    Difference
        Planes [ny, nx]; fluxes in units of the science image; `f_s` and `blank_variance` are maps; `psf_d`
        has the leading axes [rows, columns] of the tiles.

    Raises
    ------
    ParameterError
        If shapes differ or a PSF is larger than the tile.
    """
    lib = namespace(science.image, xp)
    if isinstance(reference, TiledSide):
        cut, second = reference.layout, reference
    else:
        if psf_reference is None or sigma_reference is None:
            raise ParameterError("a reference that is no TiledSide needs psf_reference and sigma_reference")
        cut = layout((science.image.shape[0], science.image.shape[1]), tile, border)
        second = tile_side(
            reference,
            psf_reference,
            cut,
            sigma=sigma_reference,
            gain=gain_reference,
            noise_correlation=noise_correlation[1],
            xp=xp,
        )
    first = tile_side(
        science,
        psf_science,
        cut,
        sigma=sigma_science,
        gain=gain_science,
        noise_correlation=noise_correlation[0],
        xp=xp,
    )
    names = ("d", "score", "variance", "scorr")
    like = first.tiles[0].image
    out = {
        name: lib.zeros(cut.shape, dtype=lib.float32, device=like.device)
        for name in (*names, "f_s", "blank_variance")
    }
    lost = lib.zeros(cut.shape, dtype=lib.bool, device=like.device)
    stamps = []
    for (i, j), new, ref in zip(cut.places, first.tiles, second.tiles, strict=True):
        old = ref.side if isinstance(ref, Prepared) else ref
        old = replace(old, scale=1.0 / scale)
        ref = replace(ref, side=old) if isinstance(ref, Prepared) else old
        difference = zogy(new, ref, shift_error=shift_error, relative_error=relative_error, xp=xp)
        stamps.append(difference.psf_d)
        wy, wx = _weights(cut, 0, i, like, lib), _weights(cut, 1, j, like, lib)
        y, x = (max(0, e[k] - _BLEND * (k > 0)) for e, k in ((cut.y, i), (cut.x, j)))
        here = (slice(y, y + wy.shape[0]), slice(x, x + wx.shape[0]))
        top, left = y - cut.y[i] + cut.border, x - cut.x[j] + cut.border
        there = (slice(top, top + wy.shape[0]), slice(left, left + wx.shape[0]))
        weight = wy[:, None] * wx[None, :]
        for name in names:
            out[name][here] += weight * getattr(difference, name)[there]
        for name in ("f_s", "blank_variance"):
            number = lib.astype(lib.asarray(getattr(difference, name), device=like.device), lib.float32)
            out[name][here] += weight * number
        lost[here] |= difference.bad[there] & (weight > 0)
    side = max(stamp.shape[-1] for stamp in stamps)
    psf_d = lib.reshape(lib.stack(stamps), (len(cut.y) - 1, len(cut.x) - 1, side, side))
    return Difference(psf_d=psf_d, bad=lost, **out)
