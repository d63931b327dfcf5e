"""Small catalogues written by lsdb and hats-import, and the rows that went into them."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.catalogs.archive import Archive

N_OBJECTS = 240


@contextmanager
def foreign() -> Iterator[None]:
    """These packages warn about much that is not ours; their pools are kept out of the tests."""
    import dask

    with warnings.catch_warnings(), dask.config.set(scheduler="synchronous"):
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="session", autouse=True)
def uncompiled() -> None:
    """hats compiles its functions with Numba for seconds on every start: on so few pixels Python does."""
    for package in ("lsdb", "hats_import"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    import numba

    numba.config.DISABLE_JIT = True
    try:
        with foreign():
            import hats_import  # noqa: F401
            import lsdb  # noqa: F401
    finally:
        numba.config.DISABLE_JIT = False


@pytest.fixture(scope="session")
def rows() -> Any:
    """A table of objects and one of observations; object 7 has 900 of them, every tenth has none."""
    import pandas as pd

    generator = np.random.default_rng(3)
    objects = pd.DataFrame(
        {
            "objid": 10**15 + generator.permutation(N_OBJECTS),
            "ra": generator.uniform(20, 50, N_OBJECTS),
            "dec": generator.uniform(-20, 20, N_OBJECTS),
            "class": generator.choice(["RRL", "EB", ""], N_OBJECTS),
        }
    )
    counts = generator.integers(1, 12, N_OBJECTS)
    counts[7], counts[::10] = 900, 0
    owner = np.repeat(np.arange(N_OBJECTS), counts)
    n = len(owner)
    observations = pd.DataFrame(
        {
            "objid": objects["objid"].to_numpy()[owner],
            "ra": objects["ra"].to_numpy()[owner],
            "dec": objects["dec"].to_numpy()[owner],
            "mjd": generator.uniform(58000, 60000, n),
            "mag": generator.normal(18, 1, n).astype(np.float32),
            "magerr": generator.uniform(0.01, 0.1, n).astype(np.float32),
            "band": generator.choice(["g", "r", "i"], n),
        }
    )
    return objects, observations


@pytest.fixture(scope="session")
def nested_frame(rows: Any) -> Any:
    """One row an object, with the column lightcurve; objects without observations have an empty one."""
    import pandas as pd
    import pyarrow as pa

    with foreign():
        from nested_pandas import NestedDtype, NestedFrame

    objects, observations = rows
    counts = observations.groupby("objid").size().reindex(objects["objid"], fill_value=0).to_numpy()
    order = np.argsort(pd.Categorical(observations["objid"], objects["objid"]).codes, kind="stable")
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    names = ["mjd", "mag", "magerr", "band"]
    values = [pa.array(observations[name].iloc[order].to_numpy()) for name in names]
    lists = [pa.ListArray.from_arrays(offsets, column) for column in values]
    curves = pa.StructArray.from_arrays(lists, names=names)
    frame = NestedFrame(objects)
    frame["lightcurve"] = pd.Series(curves, dtype=NestedDtype(curves.type))
    return frame


@pytest.fixture(scope="session")
def nested(nested_frame: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The nested catalogue as lsdb writes it: plain, as a collection, with pixels as folders."""
    base = tmp_path_factory.mktemp("nested")
    with foreign():
        import lsdb

        catalog = lsdb.from_dataframe(
            nested_frame,
            ra_column="ra",
            dec_column="dec",
            catalog_name="curves",
            partition_rows=60,
            margin_threshold=None,
        )
        options: dict[str, Any] = {"catalog_name": "curves", "progress_bar": False}
        catalog.write_catalog(base / "plain", as_collection=False, **options)
        catalog.write_catalog(base / "collection", **options)
        catalog.write_catalog(base / "folders", as_collection=False, npix_suffix="/", **options)
    return {name: base / name for name in ("plain", "collection", "folders")}


@pytest.fixture(scope="session")
def flat(rows: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with two collections of hats-import: "objects", and "sources" with a margin and an index."""
    from dask.distributed import Client

    with foreign():
        from hats_import import CollectionArguments, pipeline_with_client

    base = tmp_path_factory.mktemp("flat")
    for name, table in zip(("objects", "sources"), rows, strict=True):
        table.to_parquet(base / f"{name}.parquet")
    with (
        foreign(),
        Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client,
    ):
        for name, kind, threshold in (("objects", "object", 80), ("sources", "source", 1000)):
            words = CollectionArguments(
                output_artifact_name=name, output_path=base, progress_bar=False, tmp_dir=base
            ).catalog(
                input_file_list=[base / f"{name}.parquet"],
                file_reader="parquet",
                ra_column="ra",
                dec_column="dec",
                catalog_type=kind,
                pixel_threshold=threshold,
                highest_healpix_order=4,
            )
            if name == "sources":
                words = words.add_margin(margin_threshold=3600.0, is_default=True)
            pipeline_with_client(words, client)
    return base


def read_back(path: Path) -> dict[str, np.ndarray]:
    """Columns of an archive, one row an observation, by object, band and time."""
    archive = Archive.open(path)
    blocks = [archive.read(number, archive.variables) for number in range(archive.n_partitions)]
    found: dict[str, np.ndarray] = {}
    for name in set(blocks[0].objects) - {"first_observation", "n_observations"}:
        parts = [np.repeat(block.objects[name], np.diff(block.offsets)) for block in blocks]
        found[name] = np.concatenate(parts)
    for name in blocks[0].observations:
        found[name] = np.concatenate([block.observations[name] for block in blocks])
    found["band"] = np.array(archive.bands)[found["band"]]
    order = np.lexsort((found["time"], found["band"], found["object_id"]))
    return {name: column[order] for name, column in found.items()}


@pytest.fixture(scope="session")
def columns_of() -> Callable[[Path], dict[str, np.ndarray]]:
    return read_back
