"""Identifiers of objects and measurements: integers where they are, else texts as bytes."""

from collections.abc import Sequence

import numpy as np

from skytrawl.catalogs.sky import hash_of

# What stands for a missing identifier, as pandas and databases write it.
NO_NAME = (b"", b"nan", b"NaN", b"None", b"null", b"NULL", b"<NA>")
# The number of a measurement without identifier.
NO_ROW_ID = np.uint64(0)
_MAY_BE_NO_NAME = np.isin(np.arange(256), [0, *(name[0] for name in NO_NAME if name)])
# Numbers of more digits may not fit into 64 bits.
_DIGITS = 19


def unnamed(ids: np.ndarray) -> np.ndarray:
    """Which texts stand for a missing identifier; of integers none does.

    Parameters
    ----------
    ids : integer or bytes array of shape (n,)

    Returns
    -------
    bool array of shape (n,)
    """
    if ids.dtype.kind != "S":
        return np.zeros(len(ids), bool)
    wrong: np.ndarray = _MAY_BE_NO_NAME[_letters(ids)[:, 0]]
    if wrong.any():
        wrong[wrong] = np.isin(ids[wrong], NO_NAME)
    return wrong


def as_texts(ids: np.ndarray) -> np.ndarray:
    """Identifiers as bytes: integers in decimal."""
    return ids if ids.dtype.kind == "S" else ids.astype("S20")


def alike(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Columns of identifiers as columns of one kind: as they are, or as texts where kinds differ."""
    if len({part.dtype.kind for part in parts}) <= 1:
        return list(parts)
    return [as_texts(part) for part in parts]


def plain_integers(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the texts that are plain non-negative integers, and which are.

    "007" is no plain integer, because the number 7 would be another text.

    Parameters
    ----------
    texts : bytes array of shape (n,)

    Returns
    -------
    values : uint64 array of shape (n,)
        0 where the text is no plain integer below 2**64.
    plain : bool array of shape (n,)
    """
    letters = _letters(texts)
    length = np.count_nonzero(letters, axis=1)
    values = np.zeros(len(texts), np.uint64)
    plain = length > 0
    for place, column in enumerate(letters.T[: _DIGITS + 1]):
        digit = column - np.uint8(ord("0"))
        inside = place < length
        plain &= (digit <= 9) | ~inside
        if place < _DIGITS:
            values = np.where(inside, values * np.uint64(10) + digit, values)
    plain &= (letters[:, 0] != ord("0")) | (length == 1)
    for index in np.flatnonzero(plain & (length > _DIGITS)).tolist():
        text = texts[index]
        plain[index] = text.isdigit() and int(text) < 2**64
        values[index] = int(text) if plain[index] else 0
    values[~plain] = 0
    return values, plain


def numbers_of(ids: np.ndarray) -> np.ndarray:
    """A number of 64 bits for each identifier of a measurement.

    Integers and texts of plain integers are the number itself, so that it does not matter from which kind of
    file a row comes; other texts are hashed.

    Parameters
    ----------
    ids : integer or bytes array of shape (n,)

    Returns
    -------
    uint64 array of shape (n,)
        :data:`NO_ROW_ID` where there is none.
    """
    if ids.dtype.kind != "S":
        return ids.astype(np.int64, copy=False).view(np.uint64) if ids.dtype.kind == "i" else ids
    values, plain = plain_integers(ids)
    if not plain.all():
        values[~plain] = hash_of(ids[~plain])
        values[unnamed(ids)] = NO_ROW_ID
    return values


def _letters(texts: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(texts).view(np.uint8).reshape(len(texts), texts.dtype.itemsize)
