"""Survey descriptions: what the bands, values and times of a survey mean.

One TOML file a survey. Keys:

``name``, ``title``, ``citation``
    ``name`` is what ``--survey`` takes.
``object_id``
    "integer" or "name": the usual form of its identifiers (a hint; the data decide).
``[light_curves]``
    ``quantity`` ("magnitude", "flux"), ``photometry`` ("total", "difference", "forced difference"),
    ``units``,
    ``magnitude_system`` ("AB", "Vega"), and for fluxes ``zero_point``: the magnitude of one unit.
``[time]``
    ``format`` as delivered ("mjd", "jd", or "jd-<number>" for a truncated date), ``scale``,
    ``reference_position``,
    ``exposure_point`` ("start", "middle", "end", "unknown"). For times at the Sun or the barycentre also
    ``recover_exposure`` (true: they go back to the Earth by the objects' positions, see
    :mod:`skytrawl.catalogs.heliocentric`) and ``resolution``, the grid in days on which they are stored then.
``[[bands]]``
    In order of wavelength: ``name``, ``wavelength`` (effective, nm), ``spellings`` (other names of the same
    filter, kept as delivered), ``codes`` (other marks, translated to ``name``), ``zero_point_jy`` (flux
    density of magnitude 0, for systems other than AB).
``[columns]``
    Role (object, time, value, ...) to the column names of its usual products; [] for a role that no column
    plays, whatever its name.
``[[files]]``
    A form in which light curves come as one file each: ``suffixes``, ``columns`` of files without header
    line, ``delimiter``, ``comment``, ``heading``, ``object`` and ``band`` from the file's place ("{stem}",
    "{parent}", or the groups of the regular expression ``path``), ``limit_mark``, ``time_formats``; see
    :class:`~skytrawl.catalogs.surveys.files.Files`.
"""

from skytrawl.catalogs.surveys.description import Band, Survey, list_surveys, load_survey
from skytrawl.catalogs.surveys.files import Files

__all__ = ["Band", "Files", "Survey", "list_surveys", "load_survey"]
