"""Columns of pyarrow as NumPy arrays: without copies where that is possible."""

from typing import Any

import numpy as np

from skytrawl.catalogs.readers.table import Coded, code_integers, float_texts


def arrow_numbers(column: Any) -> np.ndarray:
    """Values of a column of numbers: floats as they are, integers as float64; NaN where missing.

    Parameters
    ----------
    column : pyarrow.Array
        Of floats or integers.

    Returns
    -------
    float32 or float64 array of shape (n,)
        May be memory of the column.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_float32(column.type) or pa.types.is_float64(column.type)):
        column = pc.cast(column, pa.float64(), safe=False)
    if column.null_count:
        filled: np.ndarray = column.to_numpy(zero_copy_only=False)
        return filled
    return _memory(column)


def arrow_integers(column: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Values of a column of integers, and which are missing (0 there); None if none is.

    Parameters
    ----------
    column : pyarrow.Array
        Of integers of any width.

    Returns
    -------
    values : int64 or uint64 array of shape (n,)
        May be memory of the column.
    missing : bool array of shape (n,) or None
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    missing = None
    if column.null_count:
        missing = column.is_null().to_numpy(zero_copy_only=False)
        column = pc.fill_null(column, 0)
    wide = pa.uint64() if pa.types.is_unsigned_integer(column.type) else pa.int64()
    return _memory(column if column.type == wide else pc.cast(column, wide)), missing


def arrow_bytes(column: Any, name: str = "") -> np.ndarray:
    """Stripped UTF-8 texts of a column as fixed-width bytes; missing ones are empty.

    Parameters
    ----------
    column : pyarrow.Array
        Text, or anything that pyarrow casts to text.
    name : str
        Of the column, for messages.

    Raises
    ------
    IngestError
        If the column holds floats so large that neighbouring whole numbers are one.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type) or pa.types.is_floating(column.type):
        return arrow_coded(column, name).texts()
    text = pc.fill_null(pc.cast(column, pa.string()), "")
    letters = _letters(text)
    if ((letters <= ord(" ")) & (letters > 0)).any() or (letters > 127).any():
        letters = _letters(pc.utf8_trim_whitespace(text))
    return letters.view(f"S{letters.shape[1]}").reshape(-1)


def arrow_coded(column: Any, name: str = "") -> Coded:
    """Stripped UTF-8 texts of a column as codes; missing ones are empty.

    Parameters
    ----------
    column : pyarrow.Array
        Text, or anything that pyarrow casts to text.
    name : str
        Of the column, for messages.

    Raises
    ------
    IngestError
        As :func:`arrow_bytes`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_integer(column.type) and not column.null_count:
        found = code_integers(column.to_numpy(zero_copy_only=False))
        if found is not None:
            return found
    if not pa.types.is_dictionary(column.type):
        column = pc.dictionary_encode(column)
    values, codes = column.dictionary, column.indices
    if pa.types.is_floating(values.type):
        texts = [text.encode() for text in float_texts(values.to_numpy(zero_copy_only=False), name)]
    else:
        text = pc.utf8_trim_whitespace(pc.fill_null(pc.cast(values, pa.string()), ""))
        texts = pc.cast(text, pa.binary()).to_pylist()
    if codes.null_count:
        codes = pc.fill_null(pc.cast(codes, pa.int32()), len(texts))
        texts.append(b"")
    return Coded(_memory(codes), texts)


def _letters(text: Any) -> np.ndarray:
    """Bytes of texts, of shape (n, greatest length), padded with zeros."""
    import pyarrow.compute as pc

    width = max(1, pc.max(pc.binary_length(text)).as_py() or 0)
    padded = pc.ascii_rpad(text, width=width, padding="\0")
    if not len(padded):
        return np.zeros((0, width), np.uint8)
    found = np.frombuffer(padded.buffers()[2], np.uint8, len(padded) * width, padded.offset * width)
    return found.reshape(len(padded), width)


def _memory(column: Any) -> np.ndarray:
    """The memory of a column of plain numbers without missing ones, as an array that may be written."""
    dtype = np.dtype(column.type.to_pandas_dtype())
    if not len(column):
        return np.zeros(0, dtype)
    values = np.frombuffer(column.buffers()[1], dtype, len(column), column.offset * dtype.itemsize)
    return values if values.flags.writeable else values.copy()
