"""The records that go in and out of image subtraction."""

from dataclasses import dataclass
from typing import Any

# Arrays of any library that follows the array API.
Array = Any


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two images of a subtraction, or a batch of them: every array may have leading axes.

    Parameters
    ----------
    image : float[..., ny, nx], image units, background subtracted
    variance : float[..., ny, nx], (image units)^2
        Of each pixel, with the noise of its sources.
    psf : float[..., py, px]
        Odd sides, sum 1, centred on the middle pixel.
    sigma : float or float[...], image units
        Noise of the empty sky, one number a tile.
    scale : float or float[...]
        Flux zero point: counts in image units of a source of flux 1.
    bad : bool[..., ny, nx], optional
        Pixels that carry no information; what stands there, NaN included, is never looked at.
    doubt : float[..., ny, nx], optional, (image units)^2
        Variance beyond `variance` of filled pixels that may hide a bright star (`fill` makes it): too large
        beside that of the sky for a transform in float32.
    gain : float or float[...], optional, e- per image unit
        Give it where the variance was taken from the counts of the image itself: then a new source raises the
        variance below it and would lower its own significance, which is undone for the score.
    """

    image: Array
    variance: Array
    psf: Array
    sigma: Array
    scale: Array = 1.0
    bad: Array | None = None
    gain: Array | None = None
    doubt: Array | None = None


@dataclass(frozen=True, eq=False)
class Prepared:
    """A side with its transforms, made once and used for every subtraction that it takes part in.

    Attributes
    ----------
    image, variance : complex[..., ny, nx // 2 + 1], transforms of the filled image and variance
    shape : (ny, nx)
    side : Side
    """

    image: Array
    variance: Array
    shape: tuple[int, int]
    side: Side


@dataclass(frozen=True, eq=False)
class Filters:
    """What two PSFs, noises and zero points make of a subtraction, in Fourier space and as numbers.

    With den = sn^2 Fr^2 |Pr|^2 + sr^2 Fn^2 |Pn|^2 and F = Fn Fr / sqrt(sn^2 Fr^2 + sr^2 Fn^2):
    a = Fr Pr / (F sqrt(den)), b = Fn Pn / (F sqrt(den)), root = F^3 sqrt(den). Then D / F = a N - b R is the
    difference in units of flux, kn = conj(b) |a|^2 root and kr = conj(a) |b|^2 root are the kernels of the
    score S = kn N - kr R = conj(a b) root D / F (Zackay, Ofek & Gal-Yam 2016, eqs. 12 to 17 and 27 to 31).

    Attributes
    ----------
    a, b : complex[..., ny, nx // 2 + 1]
    root : float[..., ny, nx // 2 + 1]
    kn2, kr2 : complex[..., ny, nx // 2 + 1], transforms of the squared score kernels
    square_n, square_r : float[..., p, p], the squared score kernels themselves
    psf_d : float[..., p, p], PSF of D
    f_s : float[...], score of a source of flux 1
    blank_variance : float[...], variance of the score where the sky is empty
    self_n, self_r : float[...]
        Variance per score that a source of one image adds where it stands (0 without a gain).
    self_noise : float[...]
        Slope of the variance over the score that noise gives, where both come from the same counts.
    weight : float[..., p, p]
        Part of a source's score that each pixel about it gives, mean of both images.
    slope : float[..., 2], variance of the x and y gradient of (S_N + S_R) / 2 on empty sky
    """

    a: Array
    b: Array
    root: Array
    kn2: Array
    kr2: Array
    square_n: Array
    square_r: Array
    psf_d: Array
    f_s: Array
    blank_variance: Array
    self_n: Array
    self_r: Array
    self_noise: Array
    weight: Array
    slope: Array


@dataclass(frozen=True, eq=False)
class Difference:
    """A difference image and the significance of what is in it.

    Attributes
    ----------
    d : float[..., ny, nx], units of flux of the zero points
        The difference. The noise of the empty sky in it is white, and a source of flux f is f times `psf_d`.
    psf_d : float[..., p, p], its PSF
    score : float[..., ny, nx]
        S, the matched filter of a new source.
    variance : float[..., ny, nx], variance of the score with the noise of all sources
    scorr : float[..., ny, nx]
        S_corr, the score in standard deviations of what it is without a new source.
    f_s : float[...] or float[..., ny, nx], score of a source of flux 1
    blank_variance : float[...] or float[..., ny, nx], variance of the score where the sky is empty
    bad : bool[..., ny, nx], pixels whose score rests too much on bad pixels
    """

    d: Array
    psf_d: Array
    score: Array
    variance: Array
    scorr: Array
    f_s: Array
    blank_variance: Array
    bad: Array

    @property
    def flux(self) -> Array:
        """PSF flux of a point source at each pixel, in units of the zero point; float[..., ny, nx]."""
        return self.score / self._wide(self.f_s)

    @property
    def flux_error(self) -> Array:
        """Standard error of `flux`, with the noise of the source itself; float[..., ny, nx]."""
        return self.variance**0.5 / self._wide(self.f_s)

    @property
    def blank(self) -> Array:
        """Score in standard deviations of the empty sky: no allowance for sources; float[..., ny, nx]."""
        return self.score / self._wide(self.blank_variance) ** 0.5

    def _wide(self, number: Array) -> Array:
        """Numbers of tiles over their pixels; maps as they are."""
        ndim = getattr(number, "ndim", 0)
        return number[..., None, None] if 0 < ndim < self.score.ndim else number
