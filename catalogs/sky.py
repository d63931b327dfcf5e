"""The order of objects: along the HEALPix curve, or by a hash of the identifier without positions."""

import numpy as np

ORDER = 29
N_CELLS = 12 * 4**ORDER
# Keys of objects without position begin here, behind every cell.
UNPLACED = np.uint64(2**63)
_ROWS = 32_768


def healpix_of(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """HEALPix cell (nested, order 29) of positions.

    Parameters
    ----------
    ra, dec : float64 arrays
        Degrees; dec within -90 to 90.

    Returns
    -------
    uint64 array

    Raises
    ------
    ValueError
        If a coordinate is not finite or a declination is beyond a pole.
    """
    ra, dec = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    wrong = ~np.isfinite(ra) | ~np.isfinite(dec) | (np.abs(dec) > 90)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"row {row} has no position on the sky: ra {ra.flat[row]}, dec {dec.flat[row]} degrees"
        )
    if not ra.size:
        return np.zeros(ra.shape, np.uint64)
    from astropy.coordinates import Latitude, Longitude
    from cdshealpix.nested import lonlat_to_healpix

    cells = np.empty(ra.shape, np.uint64)
    flat, flat_ra, flat_dec = cells.reshape(-1), ra.reshape(-1), dec.reshape(-1)
    for start in range(0, len(flat), _ROWS):  # what astropy makes on the way stays in the cache
        part = slice(start, start + _ROWS)
        lon = Longitude(np.radians(flat_ra[part]), "rad", copy=False)
        lat = Latitude(np.radians(flat_dec[part]), "rad", copy=False)
        flat[part] = lonlat_to_healpix(lon, lat, ORDER)
    return cells


def positions_of(healpix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres of HEALPix cells (nested, order 29).

    Returns
    -------
    ra, dec : float64 arrays
        Degrees.
    """
    healpix = np.asarray(healpix, np.uint64)
    if not healpix.size:
        return np.zeros(healpix.shape), np.zeros(healpix.shape)
    from cdshealpix.nested import healpix_to_lonlat

    lon, lat = healpix_to_lonlat(healpix, ORDER)
    return np.asarray(lon.deg), np.asarray(lat.deg)


def hash_of(object_id: np.ndarray) -> np.ndarray:
    """A uniform hash of identifiers that never changes; orders objects without positions.

    Parameters
    ----------
    object_id : integer array or array of fixed-width bytes
        Trailing zero bytes do not count, so that the width of the column does not matter.

    Returns
    -------
    uint64 array
        FNV-1a over the bytes of text, then the finalizer of splitmix64 (Steele et al. 2014).
    """
    object_id = np.asarray(object_id)
    if object_id.dtype.kind == "S":
        letters = np.ascontiguousarray(object_id).view(np.uint8).reshape(len(object_id), object_id.itemsize)
        state = np.full(len(object_id), 0xCBF29CE484222325, np.uint64)
        for column in letters.T:
            step = (state ^ column) * np.uint64(0x100000001B3)
            state = np.where(column == 0, state, step)
    else:
        state = object_id.astype(np.uint64)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def order_key(ra: np.ndarray, dec: np.ndarray, object_id: np.ndarray) -> np.ndarray:
    """The column ``objects/healpix``, by which the objects of an archive are ordered.

    Parameters
    ----------
    ra, dec : float64 arrays
        Degrees; both NaN for an object without position.
    object_id : array

    Returns
    -------
    uint64 array
        The HEALPix cell, or 2**63 plus half the hash of the identifier where there is no position, so that
        these objects come last and no cone reaches them.

    Raises
    ------
    ValueError
        If one coordinate alone is NaN, or a position is not on the sky.
    """
    placed = ~(np.isnan(ra) & np.isnan(dec))
    keys = UNPLACED | (hash_of(object_id) >> np.uint64(1))
    keys[placed] = healpix_of(ra[placed], dec[placed])
    return keys
