"""Positions and shapes of candidates from sums over their pixels, for any namespace of the array API."""

from typing import Any

from skytrawl.kernels.detect.types import COLUMNS, Detection

# Variance of a uniform pixel, px^2: no source is narrower.
PIXEL = 1.0 / 12.0
FWHM_OF_SIGMA = 2.3548200450309493


def centroid(nine: Any, peak_x: Any, peak_y: Any, snr: Any, xp: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Sub-pixel maximum of the flux map, its errors and the width of the maximum.

    A paraboloid through the logarithm of the 3 x 3 pixels by least squares, exact for a Gaussian. Where one
    of them is not positive or missing the pixel itself is returned. A maximum of significance s of a matched
    filter lies where the source is with covariance ``inverse(-Hessian of the logarithm) / s^2`` (the Fisher
    information of a position).

    Parameters
    ----------
    nine : float64[n, 9], flux times its sign in raster order
    peak_x, peak_y : int64[n]
    snr : float64[n], positive
    xp : namespace

    Returns
    -------
    x, y, x_error, y_error, size : float64[n], px
        `size` is the FWHM of the Gaussian with the curvature of the maximum, over sqrt(2): for a point source
        a Gaussian PSF's own and 1.14 times that of a Moffat profile of exponent 3, for a single hot pixel 1.4
        times less.
    """
    whole = xp.all(xp.isfinite(nine) & (nine > 0), axis=1)
    z = xp.log(xp.where(whole[:, None], nine, xp.ones_like(nine)))
    west, mid, east = z[:, 0] + z[:, 3] + z[:, 6], z[:, 1] + z[:, 4] + z[:, 7], z[:, 2] + z[:, 5] + z[:, 8]
    south, north = z[:, 0] + z[:, 1] + z[:, 2], z[:, 6] + z[:, 7] + z[:, 8]
    level = z[:, 3] + z[:, 4] + z[:, 5]
    gx, gy = (east - west) / 6.0, (north - south) / 6.0
    # Second derivatives with the sign turned: positive at a maximum.
    hxx, hyy = (2.0 * mid - east - west) / 3.0, (2.0 * level - north - south) / 3.0
    hxy = (z[:, 2] + z[:, 6] - z[:, 0] - z[:, 8]) / 4.0
    det = hxx * hyy - hxy * hxy
    peaked = whole & (hxx > 0) & (hyy > 0) & (det > 0)
    det = xp.where(peaked, det, xp.ones_like(det))
    zero, nan = xp.zeros_like(det), xp.full_like(det, xp.nan)
    dx = xp.where(peaked, (hyy * gx - hxy * gy) / det, zero)
    dy = xp.where(peaked, (hxx * gy - hxy * gx) / det, zero)
    # A maximum outside the pixel's own surroundings is none of this peak.
    near = (xp.abs(dx) <= 1.0) & (xp.abs(dy) <= 1.0)
    dx, dy = xp.where(near, dx, zero), xp.where(near, dy, zero)
    x_error = xp.where(peaked, xp.sqrt(xp.abs(hyy / det)) / snr, nan)
    y_error = xp.where(peaked, xp.sqrt(xp.abs(hxx / det)) / snr, nan)
    size = xp.where(peaked, FWHM_OF_SIGMA / xp.sqrt(2.0 * xp.sqrt(det)), nan)
    return xp.astype(peak_x, xp.float64) + dx, xp.astype(peak_y, xp.float64) + dy, x_error, y_error, size


def ellipse(sums: Any, xp: Any) -> tuple[Any, Any, Any]:
    """Axes and angle of the second moments about the mean, with the width of a pixel added.

    Parameters
    ----------
    sums : float64[n, 6]
        Sums of w, w dx, w dy, w dx^2, w dy^2 and w dx dy with w = abs(score).
    xp : namespace

    Returns
    -------
    a, b, theta : float64[n]; px, px, rad
    """
    w = sums[:, 0]
    mx, my = sums[:, 1] / w, sums[:, 2] / w
    xx, yy = sums[:, 3] / w - mx * mx + PIXEL, sums[:, 4] / w - my * my + PIXEL
    xy = sums[:, 5] / w - mx * my
    mean, half = (xx + yy) / 2.0, (xx - yy) / 2.0
    root = xp.sqrt(half * half + xy * xy)
    a = xp.sqrt(mean + root)
    b = xp.sqrt(xp.maximum(mean - root, xp.full_like(mean, PIXEL / 2)))
    # Round to the last bits: no axis is longer, and rounding alone would choose one.
    flat = root <= 1e-9 * mean
    theta = xp.where(flat, xp.zeros_like(root), 0.5 * xp.atan2(2.0 * xy, xx - yy))
    return a, b, theta


def finish(
    columns: dict[str, Any],
    sums: Any,
    around: tuple[Any, Any, Any, Any, Any, Any],
    shape: tuple[int, int],
    options: Detection,
    xp: Any,
) -> dict[str, Any]:
    """Add what follows from other columns, and put all in order.

    Parameters
    ----------
    columns : dict
    sums : float64[n, 6], see `ellipse`
    around : see `dipoles.surroundings`
    shape : (int, int), rows and columns of the image
    options : Detection
    xp : namespace

    Returns
    -------
    dict of the columns of `types.COLUMNS`
    """
    flags, n_negative, n_bad, partner, squared, ratio = around
    a, b, theta = ellipse(sums, xp)
    x, y = columns["x"], columns["y"]
    strong = xp.abs(xp.astype(partner, xp.float64))
    height = xp.abs(xp.astype(columns["score"], xp.float64))
    none = squared < 0
    distance = xp.sqrt(xp.astype(xp.where(none, xp.zeros_like(squared), squared), xp.float64))
    columns |= {
        "flags": flags,
        "a": a,
        "b": b,
        "theta": theta,
        "elongation": a / b,
        "snr": columns["flux"] / columns["flux_error"],
        "n_negative": n_negative,
        "n_bad": n_bad,
        "partner_distance": xp.where(none, xp.full_like(distance, xp.nan), distance),
        "partner_score": partner,
        "flux_ratio": ratio,
        "is_dipole": (strong >= options.dipole_sigma) & (strong >= options.dipole_ratio * height),
        "edge_distance": xp.minimum(
            xp.minimum(x, shape[1] - 1.0 - x), xp.minimum(y, shape[0] - 1.0 - y)
        ),
    }  # fmt: skip
    return {name: columns[name] for name in COLUMNS}
