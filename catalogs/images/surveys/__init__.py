"""Header maps of surveys, one TOML file each.

``name``, ``title``, ``citation``
    ``name`` is what ``--survey`` takes.
``[files]``
    ``passed_over``: regular expressions over the paths of files that are no exposures when a folder is
    ingested (masks, weights, PSFs that go with an image). ``extensions``, ``not_extensions``: regular
    expressions over EXTNAME of the images that are exposures, or are none.
``[keys]``
    Role to keyword, or to several that are tried in turn, in the header of the image, then in the primary
    one; a number stands for itself. Times (MJD, JD or ISO dates): ``mid``, or ``start`` with ``end`` or
    ``exptime`` [s]. Names: ``exposure``, ``detector``, ``field``, ``band``. Flux: ``zero_point`` [mag],
    ``pixel_sr`` [sr], ``unit``.
    Noise: ``gain`` [electrons per count], ``read_noise`` [electrons], ``saturation`` [image units].
    ``fwhm_px`` or ``fwhm_arcsec``. ``pointing_ra``, ``pointing_dec``: degrees, or hours with colons.
``[time]``
    ``scale`` where no card TIMESYS says otherwise: utc, tai, tt, tdb or gps.
``[bands]``
    ``pattern``: regular expression whose first group is the band in the card's text; ``names``: what that
    becomes.
``[flux]``
    ``zero_point``: AB magnitude of one image unit where no card gives it; ``zero_point_exptime``: so many
    times 2.5 log10(exposure time) is added to either. ``stretch``: "asinh" for pixels that hold inverse
    hyperbolic sines with BOFFSET and BSOFTEN. Surface brightness in MJy/sr needs no zero point.
``[noise]``
    ``gain_per_second``: pixels are rates, so that one image unit is gain times exposure time electrons.
``[pointing]``
    ``radius``: the farthest that the centre of an image may lie from where the telescope pointed, in degrees.
``[[planes]]``
    See :class:`~skytrawl.catalogs.images.headers.Plane`: ``kind``, ``extension``, ``match``, ``sibling``,
    ``required``, ``source_noise``.
``[[masks]]``
    See :class:`~skytrawl.catalogs.images.headers.Bits`: ``style``, names of bits, ``key`` and ``below``.
"""
