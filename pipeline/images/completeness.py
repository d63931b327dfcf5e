"""Completeness and purity of a detection run against what truly was in the exposures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.errors import ArchiveMismatchError, ParameterError

if TYPE_CHECKING:
    from skytrawl.catalogs.images.store import FrameStore

Columns = dict[str, np.ndarray]
# Classes of light curves that stand in the tables under one name.
_GROUPS = {b"sine": b"variable", b"rrlyrae": b"variable", b"eclipse": b"variable", b"flare": b"variable"}
# Changes of less than this share of the flux are rounding.
_NOTHING = 1e-6
_NEEDED = ("id", "type", "exposure", "x", "y", "ra", "dec", "flux", "confidence")
_PLANES = ("flux", "flux_error", "mask")


@dataclass
class Completeness:
    """How much of the truth a detection run has found.

    Attributes
    ----------
    run : str
    threshold : float, sigma
        Of the detection.
    frames, left_out : int
        Difference images that count, and those of the run that were refused or that the truth knows not.
    tables : dict of str to dict of arrays
        "all", then each type of source: as
        :func:`skytrawl.catalogs.simulate_images.completeness.completeness` gives them. The candidates of a
        type are those that no source of another type explains.
    pulls : dict of str to (int, float, float)
        Number, median and width (1.4826 MAD) of (measured - expected) / error of the PSF fluxes at the true
        places, detected or not; 0 and 1 where the photometry is right.
    """

    run: str
    threshold: float
    frames: int
    left_out: int
    tables: dict[str, Columns]
    pulls: dict[str, tuple[int, float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        names = ("run", "threshold", "frames", "left_out", "tables")
        pulls = {
            name: {"number": number, "median": median, "width": width}
            for name, (number, median, width) in self.pulls.items()
        }
        return {**{name: getattr(self, name) for name in names}, "pulls": pulls}

    def __str__(self) -> str:
        lines = [f"{self.run}: {self.frames} difference images ({self.left_out} left out)"]
        for name, table in self.tables.items():
            number, median, width = self.pulls[name]
            lines += ["", f"{name}: pull {median:+.2f}, width {width:.2f} of {number:,} fluxes"]
            lines.append("         SNR   injected found completeness          candidates  true purity")
            for row in np.flatnonzero((table["injected"] > 0) | (table["candidates"] > 0)):
                lines.append(_line({column: values[row] for column, values in table.items()}))
        return "\n".join(lines)


def _line(bin_: Mapping[str, Any]) -> str:
    shares = {
        name: f"{bin_[name]:.3f} ({bin_[name + '_low']:.3f}-{bin_[name + '_high']:.3f})" if total else "-"
        for name, total in (("completeness", bin_["injected"]), ("purity", bin_["candidates"]))
    }
    return (
        f"{bin_['low']:6.1f}-{bin_['high']:<5.1f} {bin_['injected']:8,} {bin_['recovered']:5,} "
        f"{shares['completeness']:<21} {bin_['candidates']:10,} {bin_['true']:5,} {shares['purity']}"
    )


def measure_completeness(
    run: str | Path,
    truth: str | Path | Sequence[str | Path],
    *,
    radius: float = 3.0,
    edges: Sequence[float] | None = None,
    least_confidence: float = 0.5,
) -> Completeness:
    """Compare the candidates of a detection run with the truth.

    A source counts with the flux that the difference image should show, `expected_differences`, over the
    error of the difference image at its place; it is found if a candidate of the right sign lies near.

    Parameters
    ----------
    run : path
        What `skytrawl run detect` wrote.
    truth : path or sequence of paths
        What `skytrawl run inject` or `skytrawl simulate-images` wrote; all of them together, so that real
        changes of simulated exposures do not count as false next to injected ones.
    radius : float, pixel
    edges : sequence of float, optional
        Of the bins of signal-to-noise.
    least_confidence : float
        Sources with a smaller share of their weight on usable pixels do not count.

    Returns
    -------
    Completeness

    Raises
    ------
    ArchiveMismatchError
        If the path holds no detection run.
    ParameterError
        If the truth knows none of its frames.
    """
    from skytrawl.catalogs.images.candidates import read_catalogue
    from skytrawl.catalogs.images.current import open_frames
    from skytrawl.catalogs.simulate_images.completeness import EDGES, completeness, match

    detections = open_frames(run)
    if detections.kind != "candidates":
        raise ArchiveMismatchError(f"{run} holds {detections.kind}, not what `skytrawl run detect` writes")
    tables = read_truths(truth)
    sources = expected_differences(detections, tables)
    frames = [name for name in good_frames(detections) if name.encode() in _known(tables)]
    found = read_catalogue(run)["candidates"]
    wanted = np.isin(found.get("exposure", np.zeros(0, "S1")), [name.encode() for name in frames] or [b""])
    sides = found.get("sign", np.zeros(0)) > 0
    candidates = {
        "exposure": _sided(found.get("exposure", np.zeros(0, "S1")), sides)[wanted],
        **{name: np.asarray(found.get(name, np.zeros(0)))[wanted] for name in ("x", "y", "snr")},
    }
    sources["exposure"] = _sided(sources["exposure"], sources["expected"] > 0)
    words: dict[str, Any] = {"edges": edges or EDGES, "least_confidence": least_confidence}
    partner = match(sources, candidates, radius)
    result: dict[str, Columns] = {"all": completeness(sources, candidates, radius, **words)}
    counted = sources["confidence"] >= least_confidence
    pulls = {"all": _pull(sources, counted)}
    for kind in np.unique(sources["type"][counted]):
        own = sources["type"] == kind
        free = np.ones(len(candidates["x"]), bool)
        free[partner[~own & (partner >= 0)]] = False
        part = {name: values[own] for name, values in sources.items()}
        rest = {name: values[free] for name, values in candidates.items()}
        result[kind.decode()] = completeness(part, rest, radius, **words)
        pulls[kind.decode()] = _pull(sources, counted & own)
    return Completeness(
        run=str(run),
        threshold=float(detections.attrs["parameters"]["threshold"]),
        frames=len(frames),
        left_out=len(detections) - len(frames),
        tables=result,
        pulls=pulls,
    )


def read_truths(truth: str | Path | Sequence[str | Path]) -> list[Columns]:
    """Truth tables of folders.

    Raises
    ------
    ParameterError
        If one lacks columns.
    """
    from skytrawl.catalogs.simulate_images import read_truth

    paths = [truth] if isinstance(truth, (str, Path)) else list(truth)
    if not paths:
        raise ParameterError("give the truth: what `skytrawl run inject` or `simulate-images` wrote")
    tables = []
    for path in paths:
        table = read_truth(path)
        missing = [name for name in _NEEDED if name not in table]
        if missing:
            raise ParameterError(f"the truth table of {path} lacks {', '.join(missing)}")
        table.setdefault("psf_share", np.ones(len(table["id"])))
        tables.append(table)
    return tables


def good_frames(detections: FrameStore) -> list[str]:
    """Frames of a detection run that were not refused."""
    verdicts = detections.table["verdict"].tolist()
    return [name for name, verdict in zip(detections.ids, verdicts, strict=True) if verdict != b"refused"]


def expected_differences(detections: FrameStore, tables: Sequence[Columns]) -> Columns:
    """What the difference images of a detection run should show of the sources of truth tables.

    The expected flux is that of the source on the exposure less the mean over the inputs of its reference,
    with the weights of the coadd; on inputs where it lies elsewhere (it moves) or had no light it counts as
    0, and inputs that it lies outside of do not count. Fluxes are those that PSF photometry sees.

    Parameters
    ----------
    detections : FrameStore
    tables : sequence of dict of arrays
        As `read_truths` gives them.

    Returns
    -------
    dict of arrays
        id, type, exposure, x, y, ``expected``, ``measured`` and ``error`` (nJy), ``snr`` (expected over
        error), ``confidence`` (0 where the difference image has nothing). Rows without a change are left
        out.

    Raises
    ------
    ParameterError
        If the tables know none of the frames.
    """
    known = _known(tables)
    frames = [name for name in good_frames(detections) if name.encode() in known]
    if not frames:
        raise ParameterError(
            f"the truth knows none of the frames of {detections.path}: it is about "
            f"{b', '.join(sorted(known)[:2]).decode() or 'nothing'} ..., the frames are "
            f"{', '.join(good_frames(detections)[:2]) or 'all refused'} ..."
        )
    parts: list[Columns] = []
    first = 0
    for table in tables:
        parts += _expected(detections, frames, table, first)
        first += int(table["id"].max(initial=-1)) + 1
    if not any(len(part["id"]) for part in parts):
        raise ParameterError(f"nothing of the truth changes on the frames of {detections.path}")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _expected(detections: FrameStore, frames: list[str], table: Columns, first: int) -> Iterator[Columns]:
    from skytrawl.catalogs.images.current import open_frames
    from skytrawl.catalogs.images.store import FrameStore
    from skytrawl.kernels import flags
    from skytrawl.kernels.detect.forced import forced

    differences = open_frames(detections.attrs["source"], int(detections.attrs["source_version"]))
    look_up = _LookUp(table)
    references: dict[str, tuple[list[str], np.ndarray]] = {}
    for name in frames:
        frame = differences.read(name, _PLANES)
        held = str(frame.attrs["reference"])
        if held not in references:
            record = FrameStore.cached(frame.attrs["reference_store"]).record(held)
            references[held] = (
                list(record["attrs"]["inputs"]),
                np.asarray(record["row"]["input_weight"], float),
            )
        rows = look_up.on(name)
        njy, scale = float(frame.row["njy_per_unit"]), float(frame.row["pixel_scale"])
        light = table["flux"] * table["psf_share"]
        expected = light[rows] - look_up.reference(rows, *references[held], scale * float(frame.row["fwhm"]))
        rows, expected = (
            values[np.abs(expected) > _NOTHING * np.abs(light).max(initial=0)] for values in (rows, expected)
        )
        flux, flux_error, mask = (frame.arrays[plane] for plane in _PLANES)
        found = forced(flux, flux_error, mask, table["x"][rows], table["y"][rows])
        error, measured = found["flux_error"] * njy, found["flux"] * njy
        usable = np.isfinite(measured) & (error > 0) & ((found["flags"] & flags.UNUSABLE) == 0)
        kinds = table["type"][rows].tolist()
        yield {
            "id": table["id"][rows] + first,
            "type": np.array([_GROUPS.get(kind, kind) for kind in kinds], "S16"),
            "exposure": np.full(len(rows), name.encode()),
            "x": np.asarray(table["x"][rows], float),
            "y": np.asarray(table["y"][rows], float),
            "expected": expected,
            "measured": measured,
            "error": error,
            "snr": np.where(usable, expected / np.where(usable, error, 1.0), 0.0),
            "confidence": np.where(usable, table["confidence"][rows], 0.0),
        }


class _LookUp:
    """Rows of a truth table by exposure, and by source and exposure."""

    def __init__(self, table: Columns) -> None:
        self.table = table
        self.names, self.exposure = np.unique(table["exposure"], return_inverse=True)
        self.light = table["flux"] * table["psf_share"]
        self.key = table["id"].astype(np.int64) * max(len(self.names), 1) + self.exposure
        self.order = np.argsort(self.key, kind="stable")
        self.by_exposure = np.argsort(self.exposure, kind="stable")
        self.starts = np.searchsorted(self.exposure[self.by_exposure], np.arange(len(self.names) + 1))

    def number(self, name: str) -> int:
        """Of an exposure; -1 if the table knows nothing on it."""
        at = int(np.searchsorted(self.names, name.encode()))
        return at if at < len(self.names) and self.names[at] == name.encode() else -1

    def on(self, name: str) -> np.ndarray:
        """Rows of an exposure."""
        number = self.number(name)
        if number < 0:
            return np.zeros(0, np.int64)
        return self.by_exposure[self.starts[number] : self.starts[number + 1]]

    def reference(
        self, rows: np.ndarray, inputs: list[str], weights: np.ndarray, radius: float
    ) -> np.ndarray:
        """Weighted mean flux over the inputs of a reference, within `radius` arcsec of where `rows` lie."""
        total, weight = np.zeros(len(rows)), np.zeros(len(rows))
        ra, dec = self.table["ra"], self.table["dec"]
        for name, share in zip(inputs, weights, strict=True):
            number = self.number(name)
            if number < 0:  # nothing of this table shines on it
                weight += share
                continue
            wanted = self.table["id"][rows].astype(np.int64) * len(self.names) + number
            at = np.minimum(np.searchsorted(self.key[self.order], wanted), len(self.order) - 1)
            other = self.order[at]
            there = self.key[other] == wanted
            east = (ra[other] - ra[rows] + 180.0) % 360.0 - 180.0
            away = 3600.0 * np.hypot(east * np.cos(np.radians(dec[rows])), dec[other] - dec[rows])
            total += np.where(there & (away <= radius), share * self.light[other], 0.0)
            weight += np.where(there, share, 0.0)
        return np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), 0.0)


def _known(tables: Sequence[Columns]) -> set[bytes]:
    return {name for table in tables for name in np.unique(table["exposure"]).tolist()}


def _sided(exposure: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Names of exposures with the sign, so that only sources and candidates of one sign are paired."""
    return np.char.add(exposure.astype("S"), np.where(positive, b"+", b"-"))


def _pull(sources: Columns, counted: np.ndarray) -> tuple[int, float, float]:
    values = ((sources["measured"] - sources["expected"]) / sources["error"])[counted]
    values = values[np.isfinite(values)]
    if not len(values):
        return 0, float("nan"), float("nan")
    median = float(np.median(values))
    return len(values), median, float(1.4826 * np.median(np.abs(values - median)))
