"""Which frames a cone on the sky touches."""

from collections.abc import Mapping

import numpy as np

from skytrawl.catalogs.images.table import OFFSETS
from skytrawl.catalogs.sidecars import separation, unit_vectors
from skytrawl.errors import NoPositionsError, ParameterError


def frames_in_cone(
    table: Mapping[str, np.ndarray], ra: float, dec: float, radius: float, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a table whose frames a cone touches, by the distance of their centres.

    A frame is the spherical polygon of its `corners` (ra, dec of each, in order around it), if the table has
    these; else it is its centre (`ra`, `dec`).

    Parameters
    ----------
    table : mapping of str to array
    ra, dec, radius : float, degrees
    where : str
        The store, for messages.

    Returns
    -------
    rows : int64 array
    distances : float64 array, degrees

    Raises
    ------
    NoPositionsError, ParameterError
    """
    if "ra" not in table or "dec" not in table:
        raise NoPositionsError(f"the frames of {where} have no sky positions: choose them by other columns")
    if not np.isfinite([ra, dec, radius]).all() or abs(dec) > 90 or radius < 0:
        raise ParameterError(
            f"cone({ra}, {dec}, {radius}): need finite degrees with -90 <= dec <= 90 and radius >= 0"
        )
    distance = separation(table["ra"], table["dec"], ra, dec)
    touched = distance <= radius
    if "corners" + OFFSETS in table:
        offsets = table["corners" + OFFSETS]
        centre = unit_vectors(ra, dec)
        for row in np.flatnonzero(~touched & np.isfinite(distance)):
            corners = table["corners"][offsets[row] : offsets[row + 1]].reshape(-1, 2)
            if len(corners) < 3 or not np.isfinite(corners).all():
                continue
            # A frame reaches no farther than its farthest corner: most are settled by this.
            reach = separation(corners[:, 0], corners[:, 1], table["ra"][row], table["dec"][row]).max()
            if distance[row] <= radius + reach:
                touched[row] = _touches(unit_vectors(corners[:, 0], corners[:, 1]), centre, radius)
    rows = np.flatnonzero(touched)
    order = np.argsort(distance[rows], kind="stable")
    return rows[order], distance[rows[order]]


def _touches(corners: np.ndarray, centre: np.ndarray, radius: float) -> bool:
    """Whether a convex polygon of unit vectors comes within `radius` degrees of a unit vector."""
    after = np.roll(corners, -1, axis=0)
    poles = np.cross(corners, after)
    poles /= np.linalg.norm(poles, axis=1, keepdims=True)
    sides = poles @ centre
    if np.all(sides >= 0) or np.all(sides <= 0):
        return bool(corners.sum(axis=0) @ centre > 0)  # inside, and not on the other side of the sky
    # The nearest point of a side is the foot of the perpendicular, if that lies on it, else a corner.
    foot = centre - sides[:, None] * poles
    on_side = (np.einsum("ij,ij->i", np.cross(corners, foot), poles) >= 0) & (
        np.einsum("ij,ij->i", np.cross(foot, after), poles) >= 0
    )
    nearest = np.where(on_side, np.abs(np.arcsin(np.clip(sides, -1, 1))), np.pi)
    corner = 2 * np.arcsin(np.minimum(np.linalg.norm(corners - centre, axis=1) / 2, 1))
    return bool(min(nearest.min(), corner.min()) <= np.radians(radius))
