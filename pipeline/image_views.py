"""What pictures of difference images are made of: planes in one unit, candidates, and place on the sky."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.errors import ImageError, ParameterError
from skytrawl.image_report_columns import words
from skytrawl.kernels import flags

if TYPE_CHECKING:
    from skytrawl.catalogs.images.store import FrameStore

NOT_CALIBRATED = "image units"


@dataclass(frozen=True)
class View:
    """A difference image, or a window of it, ready to be drawn.

    Attributes
    ----------
    id : str
        Of the frame.
    mode : str
        Of the subtraction.
    row : dict
        Of the table of difference images.
    planes : dict of float32[ny, nx]
        ``science``, ``reference`` and ``difference`` in `unit`, ``scorr`` in sigma; NaN where nothing is
        known. The science image is without its sky.
    unit : str
        nJy, or "image units" where no zero point is known; per pixel.
    window : (int, int, int, int)
        y0, y1, x0, x1 in pixels of the frame.
    wcs : astropy.wcs.WCS
        Of the whole frame.
    candidates : dict of array
        Columns of those in the window, x and y in pixels of the frame; empty where none were asked for.
    """

    id: str
    mode: str
    row: dict[str, Any]
    planes: dict[str, np.ndarray]
    unit: str
    window: tuple[int, int, int, int]
    wcs: Any
    candidates: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Borders of the window in pixel coordinates: left, right, bottom, top."""
        y0, y1, x0, x1 = self.window
        return x0 - 0.5, x1 - 0.5, y0 - 0.5, y1 - 0.5

    @property
    def title(self) -> str:
        """Name, filter and time."""
        parts = [self.id, f"{self.row['band']} band" if self.row.get("band") else ""]
        mjd = self.row.get("mjd")
        return ", ".join(filter(None, [*parts, f"MJD {mjd:.5f}" if mjd else ""]))


def read_view(
    differences: str | Path,
    frame_id: str | None = None,
    *,
    candidates: str | Path | None = None,
    window: tuple[int, int, int, int] | None = None,
    exposures: str | Path | None = None,
    science: bool = True,
) -> View:
    """Read a difference image with its exposure and its candidates.

    Parameters
    ----------
    differences : path
        What `skytrawl run difference` wrote.
    frame_id : str, optional
        By default the first with the verdict good, or the first that has pixels.
    candidates : path, optional
        What `skytrawl run detect` wrote.
    window : (int, int, int, int), optional
        y0, y1, x0, x1 in pixels; what lies outside the frame is cut off.
    exposures : path, optional
        Store of the exposures; by default where the run of difference found it.
    science : bool
        Whether the exposure is read.

    Returns
    -------
    View

    Raises
    ------
    ImageError
        If the difference image was refused, or there is none.
    ParameterError
        If the path holds no difference images, or the window lies outside.
    """
    from skytrawl.catalogs.images.current import open_frames
    from skytrawl.catalogs.images.measured import read_exposure
    from skytrawl.catalogs.images.wcs import wcs_of

    store = open_differences(differences)
    frame_id = frame_id or first_usable(store)
    row = store.record(frame_id)["row"]
    if row["verdict"] == "refused":
        raise ImageError(f"{frame_id} has no difference image: {row['reason']}")
    full = store.plane(frame_id, "scorr").shape
    y0, y1, x0, x1 = window or (0, full[0], 0, full[1])
    cut = max(y0, 0), min(y1, full[0]), max(x0, 0), min(x1, full[1])
    if cut[0] >= cut[1] or cut[2] >= cut[3]:
        raise ParameterError(
            f"window {window} lies outside {frame_id}, which has {full[1]} x {full[0]} pixels"
        )
    frame = store.read(frame_id, ("difference", "reference", "scorr", "mask"), cut)
    planes = {name: frame.arrays[name] for name in ("reference", "difference", "scorr")}
    if science:
        path = exposures or store.attrs["source"]
        opened = open_frames(path, None if exposures else int(store.attrs["source_version"]))
        exposure = read_exposure(opened, frame_id)
        image = exposure.planes.image[cut[0] : cut[1], cut[2] : cut[3]]
        bad = exposure.bad[cut[0] : cut[1], cut[2] : cut[3]]
        planes["science"] = np.where(bad, np.float32(np.nan), image)
    njy = row.get("njy_per_unit")
    if njy:
        planes |= {name: planes[name] * np.float32(njy) for name in planes if name != "scorr"}
    found = candidates_of(candidates, frame_id, cut) if candidates is not None else {}
    wcs = wcs_of(frame.attrs["cards"])
    unit = "nJy" if njy else frame.attrs.get("unit") or NOT_CALIBRATED
    return View(frame_id, str(frame.attrs["mode"]), row, planes, unit, cut, wcs, found)


def open_differences(path: str | Path) -> FrameStore:
    """The store of difference images at a path.

    Raises
    ------
    ParameterError
        If it holds other frames.
    """
    from skytrawl.catalogs.images.current import open_frames

    store = open_frames(path)
    if store.kind != "differences":
        raise ParameterError(f"{path} holds {store.kind}: give what `skytrawl run difference` wrote")
    return store


def usable(store: FrameStore) -> list[str]:
    """Frames of a run of difference that have pixels."""
    verdicts = words(store, "verdict")
    return [name for name, verdict in zip(store.ids, verdicts, strict=True) if verdict != "refused"]


def first_usable(store: FrameStore) -> str:
    """The first good frame, or the first that is not refused."""
    names = usable(store)
    if not names:
        raise ImageError(f"{store.path} holds no difference image; {len(store)} were refused")
    verdicts = dict(zip(store.ids, words(store, "verdict"), strict=True))
    return next((name for name in names if verdicts[name] == "good"), names[0])


def candidates_of(
    path: str | Path, frame_id: str, window: tuple[int, int, int, int] | None = None
) -> dict[str, np.ndarray]:
    """Candidates of one exposure in a window, those with the largest |score| first.

    Parameters
    ----------
    path : path
        What `skytrawl run detect` wrote.
    frame_id : str
    window : (int, int, int, int), optional
        y0, y1, x0, x1 in pixels.
    """
    from skytrawl.catalogs.images.candidates import read_catalogue

    columns = read_catalogue(path)["candidates"]
    if not columns:
        return {}
    keep = columns["exposure"] == frame_id.encode()
    if window is not None:
        y0, y1, x0, x1 = window
        keep &= (columns["x"] >= x0 - 0.5) & (columns["x"] < x1 - 0.5)
        keep &= (columns["y"] >= y0 - 0.5) & (columns["y"] < y1 - 0.5)
    rows = np.flatnonzero(keep)
    rows = rows[np.argsort(-np.abs(columns["score"][rows]), kind="stable")]
    return {name: values[rows] for name, values in columns.items()}


def good_scores(store: FrameStore, frame_id: str) -> np.ndarray:
    """S_corr of the usable pixels of a frame, float32[n]."""
    arrays = store.read(frame_id, ("scorr", "mask")).arrays
    scorr = arrays["scorr"]
    found: np.ndarray = scorr[np.isfinite(scorr) & ((arrays["mask"] & flags.UNUSABLE) == 0)]
    return found


def around(x: float, y: float, size: int) -> tuple[int, int, int, int]:
    """A window of `size` pixels around a position, y0, y1, x0, x1."""
    x0, y0 = round(x) - size // 2, round(y) - size // 2
    return y0, y0 + size, x0, x0 + size


def by_sign(columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of candidates that are brighter, and of those that are fainter, than the reference."""
    sign = columns.get("sign", np.zeros(0))
    return np.flatnonzero(sign > 0), np.flatnonzero(sign < 0)
