"""Job dmdt-maps: the histogram of the pairs of each object over (dt, dm), and its pairs as a list."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs.archive import archive_of
from skytrawl.catalogs.band_keys import key_label
from skytrawl.catalogs.schema import Variable
from skytrawl.dmdt_common import Cuts, Keys, key_codes, keys_of, magnitude_system, needs, usable
from skytrawl.errors import ObjectNotFoundError, ParameterError, SkytrawlError
from skytrawl.job import Arrays, Job, Prepared
from skytrawl.kernels import dmdt
from skytrawl.kernels.dmdt.grids import PRESETS
from skytrawl.params import option

if TYPE_CHECKING:
    import xarray as xr

    from skytrawl.catalogs.archive import Archive, Block

GRIDS = tuple(sorted(PRESETS))
DTYPES = ("uint32", "uint16", "float32")


@dataclass(frozen=True)
class Parameters(Cuts):
    """Parameters of dmdt-maps."""

    keys: tuple[str | tuple[str, ...], ...] = option(
        (), "bands and colour keys, such as g,R,g-R, or JSON lists; none = every single band"
    )
    grid: str = option("scope-ml-26x26", "name of the grid over dt and dm", "", GRIDS)
    within: str = option("all", "pairs inside a band", "", ("all", "consecutive"))
    smear: bool = option(False, "spread each pair over dm by its error instead of counting it in one cell")
    norm: tuple[str, ...] = option((), "norms, in the order dt, max, l2", "", dmdt.NORMS)
    dtype: str = option("uint32", "type of the maps; norms and smeared maps are always float32", "", DTYPES)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dtype not in DTYPES:
            raise ParameterError(f"dtype is {self.dtype!r}: choose one of {', '.join(DTYPES)}")

    @property
    def stored(self) -> str:
        """Type of the maps as they are stored."""
        return "float32" if self.norm or self.smear else self.dtype


def job_needs(parameters: Parameters, archive: Archive) -> tuple[str, ...]:
    """Variables that are read."""
    return needs(parameters, archive)


def prepare(parameters: Parameters, archive: Archive) -> Prepared:
    """Pin keys and grid."""
    if parameters.keys:
        pairs = keys_of(parameters.keys, archive)
    else:
        pairs = tuple((band, band) for band in archive.bands)
    grid = dmdt.preset(parameters.grid)
    payload = {"codes": key_codes(pairs, archive.bands), "labels": [key_label(pair) for pair in pairs]}
    attrs = {
        "grid": {"name": grid.name, "version": grid.version},
        "dt_edges": grid.dt.edges.tolist(),
        "dm_edges": grid.dm.edges.tolist(),
        "cuts": parameters.resolved(),
    }
    return Prepared({**payload, **magnitude_system(archive)}, attrs=attrs)


def gives(parameters: Parameters, prepared: Prepared) -> tuple[Variable, ...]:
    """Variables of the results."""
    comment = "dt_edges (d) and dm_edges (mag) stand in the attributes of the run; labels are the left edges"
    name = "smeared pairs" if parameters.smear else "pairs"
    long_name = f"{name} in the cell" + (f", norm {', '.join(parameters.norm)}" if parameters.norm else "")
    dims = ("object", "key", "dt", "dm")
    return (
        Variable("map", dims, parameters.stored, "", long_name, comment=comment),
        Variable("n_pairs", ("object", "key"), "int64", "", "pairs of each key, also outside the grid"),
        Variable("n_used", ("object",), "int64", "", "observations that passed the cuts"),
        Variable("n_negative", ("object",), "int64", "", "negative subtractions that were dropped"),
        Variable("n_dropped", ("object",), "int64", "", "observations that the other cuts dropped"),
    )


def coords(parameters: Parameters, prepared: Prepared) -> dict[str, list[Any]]:
    """Labels of the keys, and the left edges of the cells."""
    grid = dmdt.preset(parameters.grid)
    return {
        "key": list(prepared.payload["labels"]),
        "dt": grid.dt.edges[:-1].tolist(),
        "dm": grid.dm.edges[:-1].tolist(),
    }


def block(block: Block, parameters: Parameters, prepared: Prepared, backend: str) -> Arrays:
    """Make the maps of the objects of a block."""
    payload = prepared.payload
    rows = usable(block, parameters, payload["flux_zero_point"], with_error=parameters.smear)
    grid, rules = dmdt.preset(parameters.grid), dmdt.PairRules(within=parameters.within)  # type: ignore[arg-type]
    kernel = dmdt.gaussian_maps if parameters.smear else dmdt.count_maps
    maps = kernel(
        rows.lightcurves,
        payload["codes"],
        grid,
        rules,
        norm=parameters.norm,
        backend=backend,  # type: ignore[arg-type]
    )
    if parameters.stored == "uint16" and maps.size and maps.max() > np.iinfo(np.uint16).max:
        raise SkytrawlError(f"a cell holds {int(maps.max())} pairs, too many for uint16: choose dtype=uint32")
    return {
        "map": maps.astype(parameters.stored, copy=False),
        "n_pairs": dmdt.pair_counts(rows.lightcurves, payload["codes"], rules),
        "n_used": rows.n_used,
        "n_negative": rows.n_negative,
        "n_dropped": rows.n_dropped,
    }


def memory(n_objects: int, n_observations: int, parameters: Parameters, prepared: Prepared) -> int:
    """Bytes of work space: selected rows and the maps before they get their type."""
    n_dt, n_dm = dmdt.preset(parameters.grid).shape
    wide = 16 if parameters.smear or parameters.norm else 8
    return 90 * n_observations + wide * n_objects * len(prepared.payload["codes"]) * (n_dt + 2) * (n_dm + 2)


JOB = Job(
    name="dmdt-maps",
    summary="histogram the (dt, dm) pairs of every object",
    parameters=Parameters,
    needs=job_needs,
    gives=gives,
    prepare=prepare,
    block=block,
    memory=memory,
    kernel_version=f"{dmdt.KERNEL_VERSION}.2",
    backends=("cpu", "cuda"),
    coords=coords,
)


def object_pairs(
    archive: Archive | str | Path | xr.DataTree,
    object_id: int | str,
    *,
    keys: Keys = (),
    rules: dmdt.PairRules | None = None,
    cuts: Cuts | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """List the pairs of one object.

    Parameters
    ----------
    archive : Archive, path or DataTree
    object_id : int or str
    keys : text or sequence of keys
        Bands and colour keys, see :func:`skytrawl.catalogs.band_keys.parse_keys`; none = all of the archive.
    rules : PairRules, optional
        Default: all pairs inside a band.
    cuts : Cuts, optional

    Returns
    -------
    dict
        Label of the key -> ``dt`` (d), ``log_dt``, ``dm`` (mag), ``time_later``, ``time_earlier`` of its
        pairs by ascending log_dt. Keys without pairs are left out.

    Raises
    ------
    ObjectNotFoundError
        If the archive does not hold the object.
    """
    archive = archive_of(archive)
    cuts = cuts or Cuts()
    pairs = keys_of(keys, archive)
    part = find_object(archive, object_id, needs(cuts, archive))
    rows = usable(part, cuts, magnitude_system(archive)["flux_zero_point"])
    curves = rows.lightcurves
    found = dmdt.pairs(curves, key_codes(pairs, archive.bands), rules or dmdt.PairRules())
    result = {}
    for pair, arrays in zip(pairs, found.values(), strict=True):
        if len(arrays["dt"]):
            result[key_label(pair)] = {
                **{name: arrays[name] for name in ("dt", "log_dt", "dm")},
                "time_later": curves.time[arrays["i"].astype(np.int64)],
                "time_earlier": curves.time[arrays["j"].astype(np.int64)],
            }
    return result


def find_object(archive: Archive, object_id: int | str, names: tuple[str, ...]) -> Block:
    """Read one object by its id; ObjectNotFoundError without it."""
    wanted: Any = object_id
    if archive.array("objects/object_id").dtype.kind == "S":
        wanted = str(object_id).encode()
    elif not str(object_id).isdigit():
        raise ObjectNotFoundError(f"object {object_id!r}: the ids of {archive.path} are numbers")
    else:
        wanted = int(object_id)
    for partition in range(archive.n_partitions):
        ids = archive.read(partition, ["objects/object_id"]).objects["object_id"]
        place = np.flatnonzero(ids == wanted)
        if len(place):
            return archive.read(partition, names, slice(int(place[0]), int(place[0]) + 1))
    raise ObjectNotFoundError(f"{archive.path} holds no object {object_id!r}: check the id")


def export_pairs(pairs: dict[str, dict[str, np.ndarray]], path: str | Path, replace: bool = False) -> Path:
    """Write the pairs of one object as soraisam2020's JSON: {key: {"log_dt": [...], "dmag": [...]}}.

    Raises
    ------
    SkytrawlError
        If the file exists and `replace` is false.
    """
    path = Path(path)
    content = {
        key: {"log_dt": arrays["log_dt"].tolist(), "dmag": arrays["dm"].tolist()}
        for key, arrays in pairs.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("w" if replace else "x") as file:
            json.dump(content, file, sort_keys=True, indent=4)
    except FileExistsError as error:
        raise SkytrawlError(f"{path} exists: choose another path, or ask for replace") from error
    return path
