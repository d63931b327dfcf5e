"""Text columns of pyarrow as fixed-width bytes."""

from typing import Any

import numpy as np


def arrow_bytes(column: Any) -> np.ndarray:
    """Stripped UTF-8 texts of a column; missing ones are empty.

    Names repeat from row to row, so that each different one is turned into bytes once.

    Parameters
    ----------
    column : pyarrow.Array
        Text, or anything that pyarrow casts to text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(pc.fill_null(pc.cast(column, pa.string()), ""))
    encoded = pc.dictionary_encode(text)
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    values = np.array(pc.cast(encoded.dictionary, pa.binary()).to_pylist() or [b""], dtype="S")
    return values[encoded.indices.to_numpy(zero_copy_only=False)]
