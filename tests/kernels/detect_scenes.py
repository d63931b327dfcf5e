"""Maps of matched-filter significance with known sources, and detection in plain Python."""

import numpy as np
from scipy import fft


def moffat(fwhm, x=0.0, y=0.0, half=20, beta=3.0):
    """A stamp of sum 1 (before the shift) around (x, y) relative to its middle pixel."""
    v, u = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
    scale = fwhm / 2.0 / np.sqrt(2.0 ** (1.0 / beta) - 1.0)
    norm = np.sum((1.0 + (u**2 + v**2) / scale**2) ** -beta)
    return (1.0 + ((u - x) ** 2 + (v - y) ** 2) / scale**2) ** -beta / norm


def scene(rng, shape, x, y, flux, fwhm=3.0, sigma=10.0, source_noise=False):
    """Score, flux map, error map (float32) and the difference image of sources in noise.

    With source_noise the variance grows with the flux of the sources, and the error map follows.
    """
    image = np.zeros(shape)
    half = 20
    padded = np.zeros((shape[0] + 2 * half + 2, shape[1] + 2 * half + 2))
    for xi, yi, fi in zip(x, y, flux, strict=True):
        cx, cy = round(xi), round(yi)
        window = (slice(cy + 1, cy + 2 * half + 2), slice(cx + 1, cx + 2 * half + 2))
        padded[window] += fi * moffat(fwhm, xi - cx, yi - cy, half)
    image += padded[half + 1 : -half - 1, half + 1 : -half - 1]
    variance = sigma**2 + (np.abs(image) if source_noise else 0.0)
    image += rng.normal(size=shape) * np.sqrt(variance)
    psf = moffat(fwhm, half=half)

    def correlated(plane, kernel):
        size = [fft.next_fast_len(n + 2 * half) for n in shape]
        product = fft.rfft2(plane, size) * fft.rfft2(kernel, size)
        return fft.irfft2(product, size)[half : half + shape[0], half : half + shape[1]]

    norm = np.sum(psf**2)
    flux_map = correlated(image, psf) / norm
    error = np.sqrt(correlated(np.broadcast_to(variance, shape), psf**2)) / norm
    planes = (flux_map / error, flux_map, error, image)
    return tuple(plane.astype(np.float32) for plane in planes)


def islands(score, usable, threshold, saddle):
    """Peak (flat index) and sorted pixels of every source: pixels in falling order join what they touch."""
    columns = score.shape[1]
    places = [tuple(p) for p in np.argwhere(usable & (np.abs(score) > threshold))]
    order = sorted(places, key=lambda p: (-abs(score[p]), p))
    rank = {p: k for k, p in enumerate(order)}
    region, source, parent = {}, {}, {}

    def top_of(p):
        while region[p] != p:
            p = region[p]
        return p

    def final(p):
        while parent[p] != p:
            p = parent[p]
        return p

    for p in order:
        near = [(p[0] + j, p[1] + i) for j in (-1, 0, 1) for i in (-1, 0, 1) if i or j]
        near = [q for q in near if q in region and score[q] * score[p] > 0]
        if not near:
            region[p] = source[p] = parent[p] = p
            continue
        near.sort(key=rank.get)
        region[p] = top_of(near[0])
        source[p] = source[near[0]]
        for q in near[1:]:
            a, b = top_of(p), top_of(q)
            if a == b:
                continue
            across = source[p] if rank[a] < rank[b] else source[q]
            if rank[b] < rank[a]:
                a, b = b, a
            if np.float32(abs(score[b]) - abs(score[p])) < np.float32(saddle):
                parent[b] = across
            region[b] = a
    result = {}
    for p in sorted(places):
        y, x = final(source[p])
        result.setdefault(y * columns + x, []).append(p[0] * columns + p[1])
    return result
