"""Folders of HATS: which pixel files a catalogue or a collection consists of."""

import csv
import re
from pathlib import Path

from skytrawl.errors import IngestError

_DATA = ("object", "source")
# What repeats or describes another catalogue.
_OTHER = ("margin", "index", "association", "map", "extension")
_PIXEL = re.compile(r"Npix=(\d+)")
_ORDER = re.compile(r"Norder=(\d+)")
_DIR = 10_000


def is_pixel_file(path: Path) -> bool:
    """Whether a path names the file of a HATS pixel, or a part of one."""
    names = [path.name, path.parent.name]
    return any(_PIXEL.match(name) for name in names) and any(_ORDER.match(name) for name in path.parts)


def pixel_files(folder: Path) -> list[Path] | None:
    """Files of a catalogue in the order of the HEALPix curve; None if the folder is nothing of HATS.

    Parameters
    ----------
    folder : Path
        A catalogue, a collection, or a folder that holds one of them beside margin caches and indexes.

    Raises
    ------
    IngestError
        If it is no catalogue but a margin cache or an index, if it holds several catalogues, or if its
        files are not those that it lists.
    """
    kind, words = _kind(folder)
    if kind == "collection":
        primary = folder / words["hats_primary_table_url"]
        if _kind(primary)[0] != "catalogue":
            raise IngestError(
                f"{folder}: the primary table of the collection, {primary}, is no HATS catalogue: fetch the "
                "collection again"
            )
        return pixel_files(primary)
    if kind == "other":
        other = words.get("hats_primary_table_url", "its primary table")
        raise IngestError(
            f"{folder} is a HATS {words['dataproduct_type']} catalogue, which holds no light curves of its "
            f"own: name the catalogue it belongs to ({other}) instead"
        )
    if kind == "catalogue":
        return _listed(folder, words.get("hats_npix_suffix", ".parquet"))
    below = {child: _kind(child)[0] for child in sorted(folder.iterdir()) if child.is_dir()}
    catalogues = [child for child, found in below.items() if found in ("catalogue", "collection")]
    if len(catalogues) > 1:
        names = ", ".join(child.name for child in catalogues)
        raise IngestError(
            f"{folder} holds several HATS catalogues ({names}): name the one of the light curves; a table of "
            "the objects goes into objects="
        )
    return pixel_files(catalogues[0]) if catalogues else None


def _kind(folder: Path) -> tuple[str, dict[str, str]]:
    """What a folder is ("collection", "catalogue", "other" or ""), and its properties."""
    file = folder / "collection.properties"
    if file.is_file():
        words = _properties(file)
        return ("collection" if "hats_primary_table_url" in words else ""), words
    for name in ("hats.properties", "properties"):
        file = folder / name
        if file.is_file():
            words = _properties(file)
            product = words.get("dataproduct_type", "")
            return ("catalogue" if product in _DATA else "other" if product in _OTHER else ""), words
    return "", {}


def _properties(file: Path) -> dict[str, str]:
    """Keys and values of a Java properties file, of one line each."""
    found = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        line = line.strip()
        if line and line[0] not in "#!":
            key, _, value = line.partition("=")
            found[key.strip()] = re.sub(r"\\(.)", r"\1", value.strip())
    return found


def _listed(folder: Path, suffix: str) -> list[Path]:
    """Files of the pixels; those on disk must be those of partition_info.csv, where there is one."""
    data = folder / "dataset"
    present: dict[tuple[int, int], Path] = {}
    for path in data.glob("Norder=*/Dir=*/Npix=*"):
        found = _ORDER.match(path.parent.parent.name), _PIXEL.match(path.name)
        if found[0] and found[1]:
            present[int(found[0][1]), int(found[1][1])] = path
    table = folder / "partition_info.csv"
    if table.is_file():
        try:
            with open(table, newline="") as file:
                listed = {(int(row["Norder"]), int(row["Npix"])) for row in csv.DictReader(file)}
        except (KeyError, ValueError, TypeError) as error:
            raise IngestError(
                f"{table} is no list of Norder and Npix ({error}): fetch it again, or remove it to take the "
                "pixels that are there"
            ) from None
        if missing := sorted(listed - set(present)):
            order, pixel = missing[0]
            name = f"Norder={order}/Dir={pixel // _DIR * _DIR}/Npix={pixel}{suffix.rstrip('/')}"
            raise IngestError(
                f"{folder}: {len(missing)} pixels of partition_info.csv have no file, such as "
                f"{data / name}: fetch them, else their objects would be missing"
            )
        if extra := sorted(set(present) - listed):
            raise IngestError(
                f"{folder}: {len(extra)} pixels are not listed in partition_info.csv, such as "
                f"{present[extra[0]]}: remove their files, or fetch the catalogue again"
            )
    files: list[Path] = []
    for order, pixel in sorted(present, key=lambda key: (key[1] << 2 * (29 - key[0]), key[0])):
        path = present[order, pixel]
        files += _parts(path) if path.is_dir() else [path]
    if not files:
        raise IngestError(f"{folder}: the catalogue has no pixel files: fetch it again")
    return files


def _parts(folder: Path) -> list[Path]:
    """Files of a pixel that is a folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] not in "_.")
    if not found:
        raise IngestError(f"{folder} holds no file: fetch the pixel again")
    return found
