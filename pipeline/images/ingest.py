"""`skytrawl.ingest_images`: FITS images of any survey into a store of exposures.

One task a file: it is read, checked and written frame by frame, so that memory holds one image. A file that
the store holds already (same bytes, same options) is passed over, which is also how a killed ingest goes on.
What cannot be used is left out with the reason, image by image; nothing else suffers.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from skytrawl.catalogs.images.exposure import Fault, ReadOptions, fingerprint_of, reason_of, scan, stem_of
from skytrawl.catalogs.images.frame import Frame
from skytrawl.catalogs.images.headers import HeaderMap, load_header_map
from skytrawl.catalogs.images.measured import measure_frame
from skytrawl.catalogs.images.store import FrameStore
from skytrawl.errors import IngestError, ParameterError
from skytrawl.intake.pool import open_pool
from skytrawl.lock import only_driver

KIND = "exposures"
QUARANTINE = "quarantine.json"
_ENDINGS = re.compile(r"(?i)\.(fits|fit|fts)(\.gz|\.fz|\.bz2|\.xz)?$")
# Killed writers are given so long before their leftovers are removed, in seconds.
_LEFTOVER_AGE = 3600.0

# Called with the number of files that are done and the number there is.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ImageReport:
    """Account of an ingest of images.

    Attributes
    ----------
    store : str
        Path.
    survey : str
        Name of the header map.
    files : int
        That were looked at.
    frames : int
        Images written.
    kept : int
        Images that were there already, from the same bytes with the same options.
    passed_over : int
        Files of folders that are no exposures by the header map (masks, weights, PSFs).
    quarantined : dict of str to str
        Files and images (``file[S9]``) that were left out, with the reason.
    notes : dict of str to int
        What is doubtful about frames that were written, and how many it concerns.
    nbytes : int
        Of the files.
    version : int
        Of the store that lists the frames.
    seconds : float
        Wall time.
    """

    store: str
    survey: str
    files: int
    frames: int
    kept: int
    passed_over: int
    quarantined: dict[str, str] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    nbytes: int = 0
    version: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """All values in JSON types."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{self.store}, version {self.version}: {self.frames} images written of {self.files} files, "
            f"{self.kept} were there ({self.nbytes / 1e6:.1f} MB in {self.seconds:.1f} s)"
        ]
        if self.passed_over:
            lines.append(f"{self.passed_over} files are no exposures of {self.survey} and were passed over")
        lines += [f"note on {count} images: {note}" for note, count in sorted(self.notes.items())]
        lines += [f"left out: {source}: {reason}" for source, reason in sorted(self.quarantined.items())]
        return "\n".join(lines)


@dataclass
class _Done:
    """What a task reports of one file."""

    path: str
    sha256: str = ""
    written: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def ingest_images(
    sources: str | Path | Sequence[str | Path],
    store_path: str | Path,
    *,
    survey: str | Path | HeaderMap = "generic",
    keys: Mapping[str, str | float] | None = None,
    checksums: str = "refuse",
    positions: str = "required",
    allow_missing: bool = False,
    cosmic_rays: bool = False,
    measure: bool = True,
    quantise: Mapping[str, float] | None = None,
    on_bad: str = "quarantine",
    replace: bool = False,
    workers: int | None = None,
    cluster: str | None = None,
    progress: Progress | None = None,
) -> ImageReport:
    """Make a store of exposures from FITS images, or add more to one.

    Parameters
    ----------
    sources : path or sequence of paths
        FITS files (plain, .gz, .fz, .bz2, .xz) and folders, which are searched to the bottom.
    store_path : str or Path
        New folder, or a store of exposures; an interrupted ingest goes on when it is called again.
    survey : str, Path or HeaderMap
        Header map: bass, decam, generic, jwst, lsst, mzls, ps1, ztf, or the path of a TOML file.
    keys : dict of str to str or number, optional
        Cards of your own for roles of the header map, such as ``{"mid": "MJD-OBS", "zero_point": 25.2}``.
    checksums : {"refuse", "note"}
        What to do with images whose data are not what DATASUM says.
    positions : {"required", "optional"}
        Whether images without a place on the sky are taken.
    allow_missing : bool
        Take images whose mask or weight file is missing, where the survey delivers one.
    cosmic_rays : bool
        Look for cosmic rays in images that have no mask.
    measure : bool
        Measure sky, stars and PSF of each image, which references and difference images need.
    quantise : dict of str to float, optional
        Store these planes as integers with a step of so many sigma, such as ``{"image": 0.25}``. By default
        nothing is lost.
    on_bad : {"quarantine", "raise"}
        Leave out what cannot be used, with the reason; or stop at the first.
    replace : bool
        Replace frames that were made of other bytes or with other options; versions that list the old ones
        can no longer read them. By default such files are left out.
    workers, cluster
        As in :func:`skytrawl.ingest`.
    progress : callable, optional
        Called with the files done and to do.

    Returns
    -------
    ImageReport

    Raises
    ------
    IngestError
        If there is no file at all, or on the first bad one with ``on_bad="raise"``.
    ParameterError
        For a parameter out of its choices.
    """
    if on_bad not in ("quarantine", "raise"):
        raise ParameterError(f"on_bad={on_bad!r}: take quarantine or raise")
    started = time.monotonic()
    options = ReadOptions(dict(keys or {}), checksums, positions, allow_missing, cosmic_rays, measure)
    found = load_header_map(survey)
    parameters = fingerprint_of(found.with_keys(options.keys), options)
    files, passed_over = list_files(sources, found)
    store = FrameStore.create(store_path, KIND)
    path = store.path
    with only_driver(path):
        store.sweep(_LEFTOVER_AGE)
        faults: dict[str, str] = {}
        todo = _distinct(files, faults)
        _raise_first(faults, on_bad)
        results: list[_Done] = []

        def done(result: _Done) -> None:
            results.append(result)
            _raise_first(dict(result.faults), on_bad)
            if progress:
                progress(len(results), len(todo))

        nbytes = sum(file.stat().st_size for file in todo if file.is_file())
        names = store.written()
        tasks = [
            (
                str(path),
                str(file),
                _first_of(file, names),
                found,
                options,
                parameters,
                dict(quantise or {}),
                replace,
            )
            for file in todo
        ]
        with open_pool(cluster, workers, nbytes) as pool:
            pool.run(_take, tasks, done)
        results.sort(key=lambda result: result.path)
        for result in results:
            faults.update(result.faults)
        _drop_copies(store, results, faults)
        ids = {name for result in results for name in (*result.written, *result.kept)}
        version = store.publish(sorted(ids | set(FrameStore.open(path).ids)))
        _quarantine(store, faults, list(map(str, files)))
    _raise_first(faults, on_bad)
    notes: dict[str, int] = {}
    for result in results:
        for note in result.notes:
            notes[note] = notes.get(note, 0) + 1
    return ImageReport(
        store=str(path),
        survey=found.name,
        files=len(files),
        frames=sum(len(result.written) for result in results),
        kept=sum(len(result.kept) for result in results),
        passed_over=passed_over,
        quarantined=faults,
        notes=notes,
        nbytes=nbytes,
        version=version,
        seconds=time.monotonic() - started,
    )


def list_files(sources: str | Path | Sequence[str | Path], found: HeaderMap) -> tuple[list[Path], int]:
    """Files to ingest, sorted, and the number of those in folders that the header map passes over.

    A file that is named is taken whatever its name.

    Raises
    ------
    IngestError
        If nothing is there.
    """
    given = [sources] if isinstance(sources, (str, Path)) else list(sources)
    files: set[Path] = set()
    passed_over = 0
    for source in map(Path, given):
        if not source.is_dir():
            files.add(Path(os.path.abspath(source)))
            continue
        for folder, _, names in os.walk(source):
            for name in names:
                file = Path(os.path.abspath(os.path.join(folder, name)))
                if not _ENDINGS.search(name):
                    continue
                if any(re.search(pattern, file.as_posix()) for pattern in found.passed_over):
                    passed_over += 1
                else:
                    files.add(file)
    if not files:
        raise IngestError(
            f"no FITS images of {found.name} at {', '.join(map(str, given)) or 'no path'}: looked for .fits, "
            f".fit and .fts, also .gz, .fz, .bz2 and .xz; {passed_over} files are masks or the like"
        )
    return sorted(files), passed_over


def quarantined(store_path: str | Path) -> dict[str, str]:
    """What ingests have left out so far: file or image, and the reason."""
    file = Path(store_path) / QUARANTINE
    return dict(json.loads(file.read_text())) if file.is_file() else {}


def _take(
    store_path: str,
    file: str,
    first: str,
    found: HeaderMap,
    options: ReadOptions,
    parameters: str,
    quantise: Mapping[str, float],
    replace: bool,
) -> _Done:
    """Read one file and write its frames."""
    store, path, done = FrameStore.cached(store_path, 0), Path(file), _Done(file)
    try:
        done.sha256 = _sha256(path)
    except OSError as error:
        done.faults.append((file, f"{file} cannot be read: {error.strerror or error}"))
        return done
    held = _held(store, first, done.sha256, parameters) if first else []
    if held:
        done.kept = held
        return done
    for item in scan(path, found, options):
        if isinstance(item, Fault):
            done.faults.append((item.source, item.reason))
            continue
        if store.has(item.id) and not replace:
            row = store.record(item.id)["row"]
            if (row["sha256"], row["parameters"]) == (done.sha256, parameters):
                done.kept.append(item.id)
                continue
            why = "with other options" if row["sha256"] == done.sha256 else f"of other bytes, {row['source']}"
            fault = f"frame {item.id} is in the store, made {why}: let frames be replaced, or rename the file"
            done.faults.append((file, fault))
            continue
        if options.measure:
            try:
                measure_frame(item)
            except (OSError, MemoryError):
                raise
            except Exception as error:
                done.faults.append((_source(file, item), f"not measured: {reason_of(error)}"))
                continue
        store.write(item, quantise={name: step for name, step in quantise.items() if name in item.arrays})
        done.written.append(item.id)
        done.notes += item.attrs["notes"]
    return done


def _source(file: str, frame: Frame) -> str:
    """Name of an image in messages."""
    return file if len(frame.attrs["file_frames"]) == 1 else f"{file} ({frame.id})"


def _first_of(file: Path, names: list[str]) -> str:
    """The first frame in a sorted list that bears the name of a file, "" without one."""
    stem = stem_of(file)
    at = bisect.bisect_left(names, stem)
    name = names[at] if at < len(names) else ""
    return name if name == stem or name.startswith(stem + ".") else ""


def _held(store: FrameStore, first: str, sha256: str, parameters: str) -> list[str]:
    """Frames of a file that the store holds completely, made of the same bytes with the same options."""
    names = store.record(first)["attrs"].get("file_frames", [])
    for name in names:
        if not store.has(name):
            return []
        record = store.record(name)
        if (record["row"]["sha256"], record["row"]["parameters"]) != (sha256, parameters):
            return []
        if any(_sha_or_none(Path(path)) != other for path, other in record["attrs"]["companions"].items()):
            return []
    return list(names)


def _distinct(files: list[Path], faults: dict[str, str]) -> list[Path]:
    """The files without those whose frames would take the names of an earlier one."""
    first: dict[str, Path] = {}
    for file in files:
        other = first.setdefault(stem_of(file), file)
        if other is not file:
            same = _sha_or_none(file) is not None and _sha_or_none(file) == _sha_or_none(other)
            why = "is a copy of" if same else "and so its frames would have the name of"
            faults[str(file)] = f"{file} {why} {other}" + ("" if same else ": rename it")
    return list(first.values())


def _drop_copies(store: FrameStore, results: list[_Done], faults: dict[str, str]) -> None:
    """Keep one of several files with the same bytes: the first by name."""
    first: dict[str, str] = {}
    for result in results:
        if not (result.sha256 and (result.written or result.kept)):
            continue
        other = first.setdefault(result.sha256, result.path)
        if other != result.path:
            faults[result.path] = f"{result.path} is a copy of {other}"
            listed = set(FrameStore.open(store.path).ids)
            for name in {*result.written, *result.kept} - listed:
                store.delete(name)
            result.written, result.kept, result.notes = [], [], []


def _quarantine(store: FrameStore, faults: Mapping[str, str], files: list[str]) -> None:
    """Note what was left out; files of this ingest that are good now leave the list."""
    seen = tuple(files)
    before = {name: why for name, why in quarantined(store.path).items() if not name.startswith(seen)}
    store.storage.replace(QUARANTINE, json.dumps({**before, **faults}, indent=1, sort_keys=True).encode())


def _raise_first(faults: Mapping[str, str], on_bad: str) -> None:
    if faults and on_bad == "raise":
        source, reason = next(iter(sorted(faults.items())))
        raise IngestError(reason if source in reason else f"{source}: {reason}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha_or_none(path: Path) -> str | None:
    try:
        return _sha256(path)
    except OSError:
        return None
