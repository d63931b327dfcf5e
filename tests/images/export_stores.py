"""Small stores of every kind, made by the same code as large ones."""

from pathlib import Path

import numpy as np
import pytest
from fits_files import SHAPE, sky_image, tan_header, write

from skytrawl.catalogs.images.candidates import gather, write_catalogue
from skytrawl.catalogs.images.cutouts import cutouts
from skytrawl.catalogs.images.exposure import ReadOptions, read_exposures
from skytrawl.catalogs.images.frame import Frame
from skytrawl.catalogs.images.store import FrameStore
from skytrawl.catalogs.images.wcs import pixel_to_sky, wcs_of
from skytrawl.catalogs.sky import healpix_of
from skytrawl.kernels.detect.types import COLUMNS
from skytrawl.kernels.psf import PsfModel

SIZE = 11
COUNTS = {"a1": 0, "b,2": 7, "c 3": 5}
TYPES = np.array([b"nova", b"supernova", b"moving"])


_SHARED: list[tuple[Path, dict[str, Path], dict[str, np.ndarray]]] = []


def shared_stores(factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path], dict[str, np.ndarray]]:
    """Stores for all tests that only read, made once: the disk takes longer over them than the processor."""
    if not _SHARED:
        folder = factory.mktemp("stores")
        _SHARED.append((folder, *make_stores(folder)))
    return _SHARED[0]


def make_stores(folder: Path) -> tuple[dict[str, Path], dict[str, np.ndarray]]:
    """Exposures, difference images and candidates of three exposures, and the truth of the candidates."""
    paths = {kind: folder / kind for kind in ("exposures", "differences", "candidates")}
    exposures = FrameStore.create(paths["exposures"], "exposures")
    for number, name in enumerate(COUNTS):
        header = tan_header(150.0, 2.0 + number)
        header["OBSERVER"] = ("N. Bowditch", "who was there")
        header["LONGSTR"] = "a text that goes on over the end of a card " * 4
        header["BUNIT"] = "adu"
        header.add_history("flat fielded")
        file = write(folder / f"{name}.fits", sky_image(number), header)
        for frame in read_exposures(file, options=ReadOptions(measure=False)):
            psf = PsfModel.constant(np.ones((5, 5), np.float32) / 25).to_arrays()
            frame.arrays |= {f"psf_{key}": values for key, values in psf.items()}
            exposures.write(frame, flush=False)
    exposures.publish()
    attrs = {
        "job": "difference",
        "fingerprint": "0123456789abcdef",
        "parameters": {"mode": "zogy", "tile": 1024},
        "source": str(paths["exposures"]),
        "source_version": 1,
    }
    differences = FrameStore.create(paths["differences"], "differences", attrs)
    for number, name in enumerate(COUNTS):
        differences.write(_difference(exposures, name, number), flush=False)
    refused = {"verdict": "refused", "reason": "no reference, as yet"}
    differences.write(Frame("z refused", {}, {}, refused), flush=False)
    differences.publish()
    attrs = {"job": "detect", "fingerprint": "fedcba9876543210", "source_version": 1}
    candidates = FrameStore.create(
        paths["candidates"], "candidates", {**attrs, "source": str(paths["differences"])}
    )
    for number, (name, count) in enumerate(COUNTS.items()):
        candidates.write(_candidates(exposures, differences, name, count, number), flush=False)
    candidates.write(Frame("z refused", {}, {}, refused), flush=False)
    candidates.publish()
    opened = FrameStore.open(paths["candidates"])
    write_catalogue(opened, gather(opened, 1.0))
    return paths, _truth(opened)


def _difference(exposures: FrameStore, name: str, seed: int) -> Frame:
    random = np.random.default_rng(seed)
    exposure = exposures.read(name)
    planes = {
        plane: random.normal(0, 1, SHAPE).astype(np.float32)
        for plane in ("difference", "scorr", "flux", "flux_error", "reference")
    }
    planes["mask"] = (2 ** random.integers(0, 12, SHAPE)).astype(np.uint16)
    planes["difference"][3, 4] = np.nan
    planes["reference_psf_basis"] = random.uniform(0.01, 0.1, (3, 7, 9)).astype(np.float32)
    planes["reference_psf_frame"] = np.array([1, 31.5, 23.5, 32, 24, 1.0])
    attrs = {"cards": exposure.attrs["cards"], "mode": "zogy", "unit": "adu", "reference": "f.r.00"}
    kept = ("band", "mjd", "ra", "dec", "healpix", "width", "height", "njy_per_unit", "corners", "cover")
    row = {key: exposure.row[key] for key in kept}
    return Frame(
        name, planes, attrs, {**row, "reference": "f.r.00", "limit": 22.5, "verdict": "good", "reason": ""}
    )


def _candidates(exposures: FrameStore, differences: FrameStore, name: str, n: int, seed: int) -> Frame:
    random = np.random.default_rng(seed)
    frame = differences.read(name)
    columns = {key: np.zeros(n, dtype) for key, (dtype, _, _) in COLUMNS.items()}
    columns["x"], columns["y"] = random.uniform(0, 63, n), random.uniform(0, 47, n)
    columns["snr"] = random.normal(0, 20, n)
    columns["sign"] = np.sign(columns["snr"]).astype(np.int8)
    columns["ra"], columns["dec"] = pixel_to_sky(wcs_of(frame.attrs["cards"]), columns["x"], columns["y"])
    columns["healpix"] = healpix_of(columns["ra"], columns["dec"])
    columns["flux_njy"], columns["flux_njy_error"] = random.normal(0, 99, (2, n))
    dims: dict[str, tuple[str, ...]] = dict.fromkeys(columns, ("candidate",))
    if n:
        planes = {"science": exposures.read(name).arrays["image"]}
        planes |= {key: frame.arrays[key] for key in ("reference", "difference")}
        cut = cutouts(planes, columns["x"], columns["y"], size=SIZE, mask=frame.arrays["mask"])
        columns |= {"cutouts": cut.images, "cutout_mask": cut.mask}
        dims["cutouts"] = ("candidate", "plane", "cut_y", "cut_x")
        dims["cutout_mask"] = ("candidate", "cut_y", "cut_x")
    row = {key: frame.row[key] for key in ("band", "mjd", "njy_per_unit")}
    attrs = {"planes": ["science", "reference", "difference"]}
    return Frame(name, columns, attrs, {**row, "n_candidates": n, "verdict": "good", "reason": ""}, dims)


def _truth(store: FrameStore) -> dict[str, np.ndarray]:
    """Every other candidate is real, and one true source was not found."""
    parts: list[dict[str, np.ndarray]] = []
    for name, count in COUNTS.items():
        if count:
            arrays = store.read(name, ["x", "y"]).arrays
            rows = np.arange(0, count, 2)
            part = {axis: arrays[axis][rows] + 0.1 for axis in "xy"}
            parts.append({**part, "exposure": np.full(len(rows), name.encode()), "id": 100 + rows})
    found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    found = {key: np.append(values, values[:1]) for key, values in found.items()}
    found["x"][-1], found["id"][-1] = -500.0, 999
    n = len(found["x"])
    found |= {"type": TYPES[np.arange(n) % 3], "flux": 1000.0 + np.arange(n)}
    return found | {"quiescent": np.zeros(n), "confidence": np.linspace(0.5, 1, n), "mjd": np.zeros(n)}
