"""Keys of dm-dt references: the pairs inside a band ("g") and between two bands ("g-R")."""

import json
from collections.abc import Sequence

from skytrawl.errors import ParameterError

BandPair = tuple[str, str]


def parse_key(key: str | Sequence[str], bands: Sequence[str]) -> BandPair:
    """Read one key.

    Parameters
    ----------
    key : str or sequence of str
        ``"g"``, ``"g-R"``, ``["g", "R"]``, ``("g", "R")`` or the JSON text of the list. In "g-R" the later
        observation of a pair is in g and the earlier one in R.
    bands : sequence of str
        Known bands, names of any length; a name may itself contain "-".

    Returns
    -------
    tuple of two str
        Band of the later and of the earlier observation; equal inside a band.

    Raises
    ------
    ParameterError
        For a band that is not known, and for a text that can be cut into known bands in several ways.
    """
    known = ", ".join(bands)
    if isinstance(key, str):
        text = key.strip()
        if text.startswith("["):
            try:
                return parse_key(json.loads(text), bands)
            except json.JSONDecodeError as error:
                raise ParameterError(f"key {key!r} is no JSON list of two bands ({error})") from error
        found = [(text, text)] if text in bands else []
        for place, letter in enumerate(text):
            if letter == "-" and text[:place] in bands and text[place + 1 :] in bands:
                found.append((text[:place], text[place + 1 :]))
        if len(found) == 1:
            return found[0]
        if not found:
            raise ParameterError(f"key {key!r} names no known band: bands are {known}; write 'g' or 'g-R'")
        ways = " or ".join(str(list(way)) for way in found)
        raise ParameterError(f"key {key!r} may mean {ways}: give it as a list of two bands")
    parts = [str(part) for part in key]
    if len(parts) not in (1, 2):
        raise ParameterError(
            f"key {key!r}: give one band, or the bands of the later and the earlier observation"
        )
    unknown = [part for part in parts if part not in bands]
    if unknown:
        raise ParameterError(f"key {key!r}: band {unknown[0]!r} is not known; bands are {known}")
    return (parts[0], parts[-1])


def parse_keys(keys: str | Sequence[str | Sequence[str]], bands: Sequence[str]) -> tuple[BandPair, ...]:
    """Read several keys.

    Parameters
    ----------
    keys : sequence of keys, or text
        Keys as in `parse_key`. Text is cut at commas: ``g,R,g-R``; it may hold JSON, also where it was cut
        at the commas already: ``["g","R"]`` is one key of two bands, ``["g-R","R-g"]``,
        ``[["g","R"],["R","g"]]`` and soraisam2020's ``{"1":"g-R","2":"R-g"}`` are two keys each. None means
        all of `default_keys`.
    bands : sequence of str

    Raises
    ------
    ParameterError
        As `parse_key`, and for a key that comes twice.
    """
    parsed = tuple(parse_key(key, bands) for key in _unfolded(keys, bands)) or default_keys(bands)
    twice = {pair for pair in parsed if parsed.count(pair) > 1}
    if twice:
        raise ParameterError(f"key {key_label(sorted(twice)[0])} is given twice")
    return parsed


def _unfolded(keys: str | Sequence[str | Sequence[str]], bands: Sequence[str]) -> list[str | Sequence[str]]:
    """The keys of a text or of a sequence, one an element."""
    if not isinstance(keys, str) and not all(isinstance(key, str) for key in keys):
        return list(keys)
    text = (keys if isinstance(keys, str) else ",".join(map(str, keys))).strip()
    found: list[str | Sequence[str]] = []
    while text:
        if text[0] not in "[{":
            key, _, text = text.partition(",")
            found += [key] if key.strip() else []
        else:
            try:
                value, end = json.JSONDecoder().raw_decode(text)
            except json.JSONDecodeError as error:
                raise ParameterError(f"keys {text!r} are no JSON ({error})") from error
            several = list(value.values()) if isinstance(value, dict) else value
            one = value is several and len(value) <= 2 and all(item in bands for item in value)
            found += [several] if one else several
            text = text[end:].strip().removeprefix(",")
        text = text.strip()
    return found


def default_keys(bands: Sequence[str]) -> tuple[BandPair, ...]:
    """Every band, then every ordered pair of different bands."""
    return tuple((a, a) for a in bands) + tuple((a, b) for a in bands for b in bands if a != b)


def key_label(pair: BandPair) -> str:
    """Text of a key: "g" inside a band, "g-R" between bands."""
    return pair[0] if pair[0] == pair[1] else f"{pair[0]}-{pair[1]}"
