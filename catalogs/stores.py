"""The root group of a store: what kind of store it is, and its attributes."""

import json
from collections.abc import Mapping
from typing import Any

from skytrawl.catalogs.storage import Storage
from skytrawl.errors import NotAnArchiveError

FORMAT = 1


def group_metadata(attrs: Mapping[str, Any]) -> bytes:
    """``zarr.json`` of a group."""
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attrs}, indent=2).encode()


def store_attrs(storage: Storage) -> dict[str, Any]:
    """The skytrawl attributes of the root group of a store of any kind.

    Raises
    ------
    NotAnArchiveError
        With a remedy, for a missing path, a plain folder, a foreign Zarr store, a format that this release
        does not know.
    """
    root = storage.root
    if not root.exists():
        raise NotAnArchiveError(
            f"{root} does not exist: check the path, or make an archive with `skytrawl ingest`"
        )
    if not root.is_dir():
        raise NotAnArchiveError(
            f"{root} is a file, not a store: a table of light curves goes through `skytrawl ingest`"
        )
    try:
        meta = json.loads(storage.read("zarr.json"))
        attrs = meta.get("attributes", {}).get("skytrawl")
    except FileNotFoundError:
        raise NotAnArchiveError(
            f"{root} is a folder without zarr.json, so no skytrawl store: check the path, "
            "or make an archive with `skytrawl ingest`"
        ) from None
    except (ValueError, AttributeError) as error:
        raise NotAnArchiveError(
            f"{root / 'zarr.json'} is damaged ({error}): restore it from a copy"
        ) from None
    if not isinstance(attrs, dict) or "kind" not in attrs:
        raise NotAnArchiveError(
            f"{root} is a Zarr store of another program: it lacks the skytrawl attributes. "
            "Bring its light curves in with `skytrawl ingest`"
        )
    if not isinstance(attrs.get("format"), int) or attrs["format"] > FORMAT:
        raise NotAnArchiveError(
            f"{root} has format {attrs.get('format')!r}, this release reads up to {FORMAT}: update skytrawl"
        )
    return attrs


def read_attrs(storage: Storage, kind: str = "archive") -> dict[str, Any]:
    """The skytrawl attributes of a store that must be of this kind, else NotAnArchiveError."""
    attrs = store_attrs(storage)
    if attrs["kind"] != kind:
        opener = {"archive": "skytrawl.open_archive", "results": "skytrawl.open_results"}.get(attrs["kind"])
        if attrs.get("layout") == "frames":
            opener = "skytrawl.open_images"
        raise NotAnArchiveError(
            f"{storage.root} is a skytrawl store of kind {attrs['kind']!r}, not {kind!r}"
            + (f": open it with {opener}" if opener else "")
        )
    return attrs
