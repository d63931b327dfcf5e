"""What an export of images takes from a store: planes with their units, and where they come from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl import __version__
from skytrawl.catalogs.images.current import open_frames
from skytrawl.catalogs.images.frame import PLANE
from skytrawl.errors import ArchiveError, NotAnArchiveError, ObjectNotFoundError, ParameterError

if TYPE_CHECKING:
    from skytrawl.catalogs.images.store import FrameStore

IMAGES = ("exposures", "references", "differences")
KINDS = (*IMAGES, "candidates")
# Plane -> (extension of a FITS file, power of the image unit in its own, meaning).
PLANES: dict[str, tuple[str, int, str]] = {
    "science": ("SCI", 1, "exposure as delivered"),
    "image": ("SCI", 1, "image as delivered"),
    "variance": ("VAR", 2, "variance of a pixel, the noise of sources included"),
    "reference": ("REF", 1, "reference on the pixels of the exposure"),
    "difference": ("DIFF", 1, "exposure minus reference"),
    "scorr": ("SCORR", 0, "significance of a point source, in standard deviations"),
    "flux": ("FLUX", 1, "flux of a point source on the pixel, signed"),
    "flux_error": ("FLUXERR", 1, "standard error of the flux"),
    "mask": ("MASK", 0, "bits that say why a pixel should not be believed"),
    "n_used": ("NUSED", 0, "exposures that a pixel is made of"),
    "n_rejected": ("NREJ", 0, "exposures that were rejected on a pixel"),
}
# Provenance of a frame -> column of its row; and attributes.
_ROW = {"file": "source", "sha256": "sha256", "read_with": "parameters", "reference": "reference"}
_ATTRS = ("mode", "reference_store", "inputs", "base", "psf_from", "mask_from", "variance_from", "notes")
# Models of point spread functions: arrays -> (name, extension).
_PSF = {"psf_": ("psf", "PSF"), "reference_psf_": ("reference_psf", "PSFREF")}


@dataclass(frozen=True)
class Piece:
    """One array of a frame on its way out.

    Attributes
    ----------
    name : str
    extension : str
        Name of its extension in FITS.
    values : array
    dims : tuple of str
    unit, meaning : str
    sky : bool
        Whether its pixels are those of the image, so that the header of the image holds for it.
    """

    name: str
    extension: str
    values: np.ndarray
    dims: tuple[str, ...]
    unit: str
    meaning: str
    sky: bool


class Source:
    """A store of frames as exports read it.

    Parameters
    ----------
    path : path
        What `ingest-images`, or a job over images, wrote.
    frames : sequence of str, optional
        Ids, or patterns as the shell has them; all by default.
    version : int, optional
        Default the latest.
    origin : path, optional
        Store that the job of this one ran over, such as the exposures of difference images; by default where
        its run found it.

    Attributes
    ----------
    store : FrameStore
    ids : list of str
        Chosen frames that hold anything, ascending.
    rows : int64 array
        Rows of all chosen frames in the store's table, refused ones among them.

    Raises
    ------
    NotAnArchiveError
        If the path holds no store of frames, or one of a kind that is exported in another way.
    ObjectNotFoundError
        If a name or pattern fits no frame.
    """

    def __init__(
        self,
        path: str | Path,
        frames: Sequence[str] | None = None,
        version: int | None = None,
        origin: str | Path | None = None,
    ) -> None:
        self.path = Path(path)
        self.store = open_frames(path, version)
        if self.store.kind not in KINDS:
            raise NotAnArchiveError(
                f"{path} holds {self.store.kind}, and images are exported from {', '.join(KINDS)}: light "
                "curves of forced photometry are an archive, for `skytrawl export`"
            )
        if not self.store.version:
            raise NotAnArchiveError(
                f"{path} has published no version: finish what writes it (the same command goes on)"
            )
        self._origin = origin
        chosen = _chosen(self.store.ids, frames, self.path)
        self.rows = np.array([self.store.row_number(name) for name in chosen], np.int64)
        self.ids = [name for name in chosen if self.store.record(name)["arrays"]]

    @property
    def kind(self) -> str:
        """What the frames are."""
        return self.store.kind

    def planes(self) -> list[str]:
        """Names that `pieces` can be asked for: those of the first frame."""
        if not self.ids:
            return []
        return [name for name, _ in self._listed(self.ids[0])]

    def check_planes(self, planes: Sequence[str] | None) -> None:
        """ParameterError if the frames have no such plane."""
        known = self.planes()
        wrong = [name for name in planes or () if name not in known]
        if wrong and known:
            raise ParameterError(f"{self.path} has no plane {', '.join(wrong)}; it has {', '.join(known)}")

    def pieces(self, frame_id: str, planes: Sequence[str] | None = None) -> Iterator[Piece]:
        """Arrays of a frame, read one after the other.

        Parameters
        ----------
        frame_id : str
        planes : sequence of str, optional
            Names as in `planes`; all by default.
        """
        unit = self.unit(frame_id)
        for name, arrays in self._listed(frame_id):
            if planes is not None and name not in planes:
                continue
            # Where a difference image was made, its exposure and the PSF of that are frames of another store.
            own = arrays[0] in self.store.record(frame_id)["arrays"]
            store = self.store if own else self.origin()
            read = ["image"] if name == "science" else list(arrays)
            frame = store.read(frame_id, read)
            if name in ("psf", "reference_psf"):
                yield from self._psf(frame_id, name, frame.arrays)
                continue
            values = frame.arrays[read[0]]
            self._check_shape(frame_id, name, values)
            extension, power, meaning = PLANES.get(name, (name.upper().replace("_", "")[:16], 0, ""))
            sky = frame.dims[read[0]] == PLANE
            yield Piece(name, extension, values, frame.dims[read[0]], _power(unit, power), meaning, sky)

    def _check_shape(self, frame_id: str, name: str, values: np.ndarray) -> None:
        row = self.store.record(frame_id)["row"]
        wanted = (row.get("height"), row.get("width"))
        if name == "science" and values.shape != wanted:
            raise ArchiveError(
                f"frame {frame_id}: the exposure in {self.origin().path} has {values.shape} pixels, its "
                f"difference image {wanted}: that is not the store it was made from"
            )

    def origin(self) -> FrameStore:
        """Store that the job of this one ran over.

        Raises
        ------
        NotAnArchiveError
            If it is no longer where the run found it; says what to do.
        """
        if len(self._lineage) < 2:
            path = self._origin or self.store.attrs.get("source", "")
            raise NotAnArchiveError(
                f"what {self.path} was made of is not at {str(path)!r}: say where it is (origin, --origin), "
                "or name planes without science and psf"
            )
        return self._lineage[1]

    @cached_property
    def _lineage(self) -> list[FrameStore]:
        """Stores that led to this one, as far as they are still there: itself first."""
        found = [self.store]
        given: str | Path | None = self._origin
        while "source" in found[-1].attrs or given:
            attrs = found[-1].attrs
            try:
                found.append(
                    open_frames(given or attrs["source"], None if given else attrs["source_version"])
                )
            except NotAnArchiveError:
                if given:
                    raise
                break
            given = None
        return found

    def records(self, frame_id: str) -> list[tuple[FrameStore, dict[str, Any]]]:
        """The records of a frame in this store and in those before it: candidates, difference, exposure."""
        held = [store for store in self._lineage if store is self.store or frame_id in store]
        return [(store, store.record(frame_id)) for store in held]

    def cards(self, frame_id: str) -> tuple[str, str]:
        """Header cards of the image of a frame, and of the primary header of its file, "" if unknown."""
        attrs = [record["attrs"] for _, record in self.records(frame_id)]
        image, primary = (
            next((found[name] for found in attrs if found.get(name)), "")
            for name in ("cards", "primary_cards")
        )
        return image, primary

    def unit(self, frame_id: str) -> str:
        """Unit of the pixels as the header of the image says it, "" where it does not."""
        for _, record in self.records(frame_id):
            unit = record["row"].get("unit") or record["attrs"].get("unit")
            if unit:
                return str(unit)
        return ""

    def tables(self, frame_id: str) -> list[tuple[str, np.ndarray]]:
        """Extensions with the distortion tables of the WCS: cards and values."""
        for store, record in self.records(frame_id):
            texts = record["attrs"].get("wcs_tables", [])
            if texts:
                names = [f"wcs_table_{number}" for number in range(len(texts))]
                arrays = store.read(frame_id, names).arrays
                return [(text, arrays[name]) for text, name in zip(texts, names, strict=True)]
        return []

    def provenance(self) -> dict[str, Any]:
        """Where the store comes from: job, fingerprints, parameters, versions of packages."""
        attrs = self.store.attrs
        names = ("job", "parameters", "backend", "command", "date", "versions", "source", "source_version")
        return {
            "software": f"skytrawl {__version__}",
            "store": str(self.store.path),
            "kind": self.kind,
            "version": self.store.version,
            "fingerprint": self.store.fingerprint,
            "job": "ingest-images",
            "run": attrs.get("fingerprint", ""),
            **{name: attrs[name] for name in names if name in attrs},
        }

    def of_frame(self, frame_id: str) -> dict[str, Any]:
        """Where a frame comes from: content, file and its sha256, reference, mode, inputs, notes."""
        records = [record for _, record in self.records(frame_id)]
        found: dict[str, Any] = {"frame": frame_id, "content": records[0]["content"]}
        for record in records:
            row, attrs = record["row"], record["attrs"]
            kept = {name: row.get(key) for name, key in _ROW.items()}
            kept |= {name: attrs.get(name) for name in _ATTRS}
            found |= {name: value for name, value in kept.items() if value and name not in found}
        return found

    def _listed(self, frame_id: str) -> list[tuple[str, tuple[str, ...]]]:
        """Names of what a frame gives, planes first, and the arrays that each is made of."""
        arrays = list(self.store.record(frame_id)["arrays"])
        models = [prefix for prefix in _PSF if f"{prefix}basis" in arrays]
        taken = {f"{prefix}{part}" for prefix in models for part in ("basis", "frame")}
        plain = [name for name in arrays if name not in taken and not name.startswith("wcs_table_")]
        found: list[tuple[str, tuple[str, ...]]] = []
        if self.kind == "differences":
            found.append(("science", ("science",)))
            found.append(("psf", ("psf_basis", "psf_frame")))
        found += [(name, (name,)) for name in plain]
        found += [(_PSF[prefix][0], (f"{prefix}basis", f"{prefix}frame")) for prefix in models]
        order = list(PLANES)
        return sorted(found, key=lambda item: order.index(item[0]) if item[0] in PLANES else len(order))

    def _psf(self, frame_id: str, name: str, arrays: dict[str, np.ndarray]) -> Iterator[Piece]:
        from skytrawl.kernels.psf import PsfModel

        prefix = f"{name}_"
        basis, frame = arrays[f"{prefix}basis"], arrays[f"{prefix}frame"]
        model = PsfModel.from_arrays({"basis": basis, "frame": frame})
        row = self.store.record(frame_id)["row"]
        stamp = model.at((row["width"] - 1) / 2, (row["height"] - 1) / 2)
        extension = _PSF[prefix][1]
        of = "of the reference " if name == "reference_psf" else ""
        yield Piece(
            name, extension, np.asarray(stamp, np.float32), (f"{prefix}y", f"{prefix}x"), "",
            f"PSF {of}at the centre of the image, in its pixels, sum 1", False,
        )  # fmt: skip
        dims = (f"{prefix}term", f"{prefix}v", f"{prefix}u")
        yield Piece(f"{prefix}basis", f"{extension}BAS", basis, dims, "", f"samples of the PSF {of}", False)
        meaning = "degree, x0, y0, xscale, yscale [pixel, 0-based], pixels per sample of the PSF model"
        yield Piece(f"{prefix}frame", f"{extension}FRM", frame, (f"{prefix}number",), "", meaning, False)


def _chosen(ids: list[str], frames: Sequence[str] | None, path: Path) -> list[str]:
    if frames is None:
        return list(ids)
    found: set[str] = set()
    for pattern in frames:
        fitting = [name for name in ids if name == pattern or fnmatchcase(name, pattern)]
        if not fitting:
            some = ", ".join(ids[:3]) or "none"
            raise ObjectNotFoundError(f"{path} has no frame {pattern!r}; it has {len(ids)}: {some} ...")
        found.update(fitting)
    return sorted(found)


def _power(unit: str, power: int) -> str:
    if power == 1 or not unit:
        return unit if power else ""
    return (f"{unit}2" if unit.isalpha() else f"({unit})**2") if power == 2 else ""


def text_of(value: Any) -> str:
    """One line of text of a value: JSON where it is nested."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
