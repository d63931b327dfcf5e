"""The bands of an archive: which names they bear and which codes they have."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from skytrawl.catalogs.surveys import Survey
from skytrawl.errors import ParameterError

# The code of a band that the archive does not have.
NO_CODE = 255


def band_names(
    survey: Survey,
    spellings: Mapping[str, Collection[str]],
    asked: Sequence[str] | None,
    warnings: list[str],
) -> tuple[str, ...]:
    """Names of an archive's bands, by code.

    Parameters
    ----------
    survey : Survey
    spellings : mapping of str to collection of str
        Band of the survey to its delivered names, as a tally has them.
    asked : sequence of str or None
        The bands that the user asked for; these are the names then.
    warnings : list of str
        Takes a line for each band that was delivered under several names.

    Returns
    -------
    tuple of str
        As asked for, or all bands of the survey in order of wavelength, spelled as delivered; marks that are
        mere codes become the survey's name.

    Raises
    ------
    ParameterError
        If the same band was asked for twice.
    """
    if asked is not None:
        if len({band.name for band in map(survey.band, asked) if band is not None}) < len(asked):
            raise ParameterError(f"bands={list(asked)} names one filter of {survey.name} twice")
        return tuple(asked)
    chosen = []
    for band in survey.bands:
        spelled = sorted(set(spellings.get(band.name, ())) - set(band.codes))
        if len(spelled) > 1:
            warnings.append(f"{' and '.join(spelled)} are one filter of {survey.name}: stored as {band.name}")
        chosen.append(spelled[0] if len(spelled) == 1 else band.name)
    return tuple(chosen)


def band_codes(survey: Survey, bands: Sequence[str]) -> np.ndarray:
    """Code in an archive of each band of a survey.

    Parameters
    ----------
    survey : Survey
    bands : sequence of str
        Of the archive, in any spelling.

    Returns
    -------
    uint8 array of shape (number of bands of the survey,)
        :data:`NO_CODE` for bands that the archive lacks.
    """
    names = [band.name if band is not None else "" for band in map(survey.band, bands)]
    return np.array([names.index(name) if name in names else NO_CODE for name in survey.band_names], np.uint8)
