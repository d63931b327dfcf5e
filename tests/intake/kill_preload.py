"""Imported once by the server of forks: all modules, and kernels that are compiled."""

import tempfile

import distributed  # noqa: F401
import kill_work
import numpy as np
import pandas  # noqa: F401
import pyarrow.compute
import pyarrow.pandas_compat
import pyarrow.parquet  # noqa: F401

from skytrawl.deploy import local  # noqa: F401

_IDS = np.arange(100, dtype=np.uint64) % 7
_TABLE = {
    "object": _IDS,
    "mjd": 58000.0 + np.arange(100.0)[::-1],
    "mag": np.full(100, 18, np.float32),
    "magerr": np.full(100, 0.1, np.float32),
    "band": np.array(["g", "r"])[np.arange(100) % 2],
    "ra": _IDS + 1.0,
    "dec": _IDS - 3.0,
}
with tempfile.TemporaryDirectory() as folder:
    kill_work.ingest(_TABLE, f"{folder}/a.zarr", survey="ztf", partition_observations=40, cluster="inline")
    kill_work.state_of(kill_work.Archive.open(f"{folder}/a.zarr"))
