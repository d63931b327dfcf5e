"""Every object lies in one place: identifiers that were found in several are brought together.

The rows of an alert stream scatter around their object, so that some fall over the border of a bucket; and a
known object may come back a little aside. Their rows are taken out of all buckets, grouped, and put into the
bucket in which the object belongs.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs import id_index
from skytrawl.catalogs.id_spill import Spill
from skytrawl.catalogs.storage import Storage
from skytrawl.intake.assemble import assemble
from skytrawl.intake.buckets import Buckets
from skytrawl.intake.files import declared_columns, discard, load_arrays, save_arrays
from skytrawl.intake.reading import DEFAULTS
from skytrawl.intake.scatter import extract_rows
from skytrawl.intake.spill import SpilledRows, open_spill, write_spill
from skytrawl.kernels.rows import bucket_of

if TYPE_CHECKING:
    from skytrawl.intake.stages import Intake

Record = dict[str, Any]
# Generations of the id index before they are merged into one.
MOST_GENERATIONS = 16
# Identifiers that are compared with each other at a time, about.
MOST_IDS = 1_000_000


def settle_strays(intake: Intake, buckets: Buckets | None, blocks: list[Record]) -> list[str] | None:
    """Bring objects together that lie in several buckets, and index all identifiers.

    Parameters
    ----------
    intake : Intake
    buckets : Buckets or None
        None for ordered input, the blocks of which cannot be repaired.
    blocks : list of dict
        Records of the blocks; those that are written again are replaced in place.

    Returns
    -------
    list of str or None
        Names of the generations of the id index that hold all objects; None if ordered input has strays.
    """
    journal = intake.journal
    known = list(intake.base.version.index) if intake.base is not None else []
    found = journal.once("strays", lambda: _find(intake, known, blocks))
    if found["count"]:
        if buckets is None:
            return None
        _repair(intake, buckets, blocks, found)
    names: list[str] = journal.once("index", lambda: {"names": _index(intake, known, blocks)})["names"]
    return names


def _index(intake: Intake, known: list[str], blocks: list[Record]) -> list[str]:
    """Add the new objects to the index; returns the generations that hold all objects."""
    storage = intake.journal.storage
    if not any(block["new_objects"] for block in blocks):
        return known
    name = intake.journal.prefix.rpartition("/")[2]
    for left in (name, f"{name}-all"):  # of an interrupted run of this ingest
        shutil.rmtree(storage.path(f"index/{left}"), ignore_errors=True)
    dtype = declared_columns(storage)["object_id"]
    made = id_index.build(storage, name, _batches(intake, blocks), dtype=dtype)
    if made.duplicates:
        raise RuntimeError(
            f"{made.duplicates} objects are in several places after the census: this is a fault of skytrawl, "
            "please report it with the input; nothing is published"
        )
    if intake.base is not None and not known:
        return []  # the archive was made without an index: part of one would hide its objects
    if len(known) < MOST_GENERATIONS:
        return [*known, name]
    id_index.compact(storage, [*known, name], f"{name}-all")
    return [f"{name}-all"]


def _census(intake: Intake, block: Record) -> dict[str, np.ndarray]:
    return load_arrays(intake.journal.storage, intake.journal.key(f"census/{block['number']}.npz"))


def _batches(intake: Intake, blocks: list[Record]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for block in blocks:
        if block["new_objects"]:
            census = _census(intake, block)
            yield census["ids"], census["keys"]


def _find(intake: Intake, known: list[str], blocks: list[Record]) -> Record:
    """Identifiers that lie in several buckets, outside of their bucket, or in another one of the base."""
    storage = intake.journal.storage
    parts: list[np.ndarray] = []
    for block in blocks:
        if block["strays"]:
            census = _census(intake, block)
            parts.append(census["ids"][census["strays"]])
    parts += _repeated(intake, blocks)
    if intake.base is not None:
        for ids, _ in _batches(intake, blocks):
            is_known, _ = lookup(intake, known, ids)
            parts.append(ids[is_known])
    parts = [part for part in parts if len(part)]
    if not parts:
        return {"count": 0}
    strays = np.unique(np.concatenate(parts))
    save_arrays(storage, intake.journal.key("strays.npz"), ids=strays)
    affected = [
        str(block["number"]) for block in blocks if np.isin(_census(intake, block)["ids"], strays).any()
    ]
    return {"count": len(strays), "affected": affected}


def _repeated(intake: Intake, blocks: list[Record]) -> list[np.ndarray]:
    """Identifiers that occur in several blocks, share by share, so that memory is bounded."""
    storage = intake.journal.storage
    total = sum(block["new_objects"] for block in blocks)
    bits = max(0, (total - 1) // MOST_IDS).bit_length()
    found = []
    with Spill(
        storage, intake.journal.prefix.rpartition("/")[2], declared_columns(storage)["object_id"]
    ) as all_ids:
        for ids, keys in _batches(intake, blocks):
            all_ids.add(ids, keys)
        for share in range(1 << bits):
            ids = np.sort(all_ids.part(share, bits)[0])
            found.append(ids[1:][ids[1:] == ids[:-1]])
    return found


def lookup(intake: Intake, known: list[str], ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which identifiers the base holds, and where on the curve."""
    assert intake.base is not None
    if known:
        return id_index.lookup(intake.journal.storage, known, ids)
    # An archive without an index: look through all of its objects.
    found, keys = np.zeros(len(ids), bool), np.zeros(len(ids), np.uint64)
    order = np.argsort(ids)
    for partition in np.flatnonzero(intake.base.version.partitions["n_objects"]).tolist():
        block = intake.base.read(partition, ["object_id", "healpix"])
        place = np.searchsorted(ids[order], block.objects["object_id"])
        place = np.minimum(place, len(ids) - 1)
        hit = np.flatnonzero(ids[order][place] == block.objects["object_id"])
        found[order[place[hit]]] = True
        keys[order[place[hit]]] = block.objects["healpix"][hit]
    return found, keys


def _repair(intake: Intake, buckets: Buckets, blocks: list[Record], found: Record) -> None:
    journal = intake.journal
    affected = set(found["affected"])
    moved = journal.key("strays.npz")
    todo = {name: (journal, name, buckets.sources[name], moved) for name in found["affected"]}
    extracted = intake.stage("extracted", extract_rows, todo, "sort")
    sources = [(record["key"], 0) for record in extracted.values() if record["rows"]]
    key = journal.key("spill/moved")
    home = journal.once("moved", lambda: _rehome(intake, buckets, sources, key, journal.storage))
    names = list(buckets.territory)
    for number, count in zip(home["buckets"], home["counts"], strict=True):
        buckets.sources.setdefault(names[number], [])
        buckets.rows[names[number]] = buckets.rows.get(names[number], 0) + count
    at_home = {names[number]: [(key, number)] for number in home["buckets"]}
    again = [name for name in names if name in at_home or name in affected]
    left = dict.fromkeys(found["affected"], moved)
    records = {
        str(record["number"]): record for record in intake.write("again", buckets, again, left, at_home)
    }
    for place, block in enumerate(blocks):
        if (record := records.pop(str(block["number"]), None)) is not None:
            discard(journal.storage, block)
            blocks[place] = record
    blocks.extend(records.values())


def _rehome(
    intake: Intake, buckets: Buckets, sources: list[tuple[str, int]], key: str, storage: Storage
) -> Record:
    """Write the rows of all strays into one file, each in the bucket where its object belongs."""
    rows = SpilledRows(storage, sources)
    declared = declared_columns(storage)
    made = assemble(rows, declared, drop_duplicates=False)
    ids, keys = made.block.objects["object_id"], made.block.objects["healpix"]
    if intake.base is not None:
        is_known, old_keys = lookup(intake, list(intake.base.version.index), ids)
        keys = np.where(is_known, old_keys, keys)
    order = np.argsort(ids)
    all_ids = rows.column("object", declared["object_id"])
    bucket = bucket_of(keys, buckets.borders())[order[np.searchsorted(ids[order], all_ids)]]
    types = {
        name: dtype
        for source, _ in sources
        for name, (dtype, _) in open_spill(storage, source).columns.items()
    }
    columns = {
        name: all_ids if name == "object" else rows.column(name, dtype, DEFAULTS.get(name))
        for name, dtype in types.items()
    }
    found, counts = write_spill(storage, key, columns, bucket, len(buckets.territory))
    return {"buckets": found.tolist(), "counts": counts.tolist()}
