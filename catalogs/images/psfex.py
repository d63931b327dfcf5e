"""PSF models that PSFEx wrote: its own files, and tables in which surveys have merged them."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.errors import IngestError
from skytrawl.kernels.psf import PsfModel, n_terms


def read_psfex(path: str | Path, *, detector: str | None = None) -> PsfModel:
    """PSF model of a PSFEx file.

    PSFEx (Bertin 2011) gives samples on a grid of ``PSF_SAMP`` pixels, of which each term of a polynomial in
    ``((X_IMAGE - POLZERO1) / POLSCAL1, (Y_IMAGE - POLZERO2) / POLSCAL2)`` has its own; pixels count from 1
    there and from 0 here. Read are the files of the program (keys in the header of the table) and tables that
    hold one model a row with the keys as columns, as the DESI Legacy Surveys keep them.

    Parameters
    ----------
    path : str or Path
    detector : str, optional
        Which model of a file with several: the name of the extension, or the value in column ``ccdname``.

    Returns
    -------
    PsfModel

    Raises
    ------
    IngestError
        If the file cannot be read, holds no such model, or one that depends on more than the position.
    """
    from astropy.io import fits

    path = Path(path)
    try:
        with warnings.catch_warnings(), fits.open(path, memmap=False) as units:
            warnings.filterwarnings("error", "File may have been truncated")
            tables = [unit for unit in units if isinstance(unit, fits.BinTableHDU)]
            found = [model for unit in tables for model in _rows(unit)]
            if detector is not None and len(found) > 1:
                found = [model for model in found if model[0] == detector]
            if len(found) != 1:
                names = sorted(name for unit in tables for name, *_ in _rows(unit))
                raise IngestError(
                    f"{path}: {len(found)} PSFEx models, not one"
                    + (f"; name the detector, one of {', '.join(names)}" if names else "")
                )
            return _model(*found[0][1:])
    except (OSError, KeyError, TypeError, ValueError, IndexError, UserWarning) as error:
        if isinstance(error, IngestError):
            raise
        raise IngestError(f"{path}: not a PSFEx model: {error}") from error


def _rows(unit: Any) -> list[tuple[str, Callable[[str], Any], Any]]:
    """Name, look-up of keys and samples of every model in a table."""
    columns = {name.upper(): name for name in unit.columns.names}
    if "PSF_MASK" not in columns:
        return []
    samples = unit.data[columns["PSF_MASK"]]
    if "POLNAXIS" in unit.header or "POLNAME1" in unit.header:
        # Copies that the Legacy Surveys made of the program's files lack these; the rest tells them.
        held = {"POLNAXIS": sum(f"POLNAME{axis}" in unit.header for axis in range(1, 10))}
        held |= {f"PSFAXIS{axis}": size for axis, size in enumerate(samples.shape[:0:-1], 1)}
        return [(unit.name, {**held, **unit.header}.__getitem__, samples[0])]

    def row(index: int) -> tuple[str, Callable[[str], Any], Any]:
        def value(key: str) -> Any:
            return unit.data[columns[key]][index]

        return (str(value("CCDNAME")) if "CCDNAME" in columns else unit.name, value, samples[index])

    return [row(index) for index in range(len(samples))]


def _model(value: Callable[[str], Any], samples: Any) -> PsfModel:
    """Model from the keys of PSFEx."""
    axes = int(value("POLNAXIS"))
    basis = np.asarray(samples, np.float32).reshape(-1, int(value("PSFAXIS2")), int(value("PSFAXIS1")))
    # The star sits on sample n // 2; one more row or column of zeros makes that the middle of an even side.
    basis = np.pad(basis, [(0, 0), *((0, 1 - side % 2) for side in basis.shape[1:])])
    sampling = float(value("PSF_SAMP"))
    if axes == 0:
        return PsfModel(basis[:1], sampling=sampling)
    names = [str(value(f"POLNAME{axis + 1}")).strip() for axis in range(axes)]
    x_y = axes == 2 and names[0].startswith("X") and names[1].startswith("Y")
    if not x_y or int(value("POLNGRP")) != 1:
        raise ValueError(f"it depends on {', '.join(names)}; only one polynomial in X and Y is understood")
    degree = int(value("POLDEG1"))
    return PsfModel(
        basis[: n_terms(degree)],
        degree,
        float(value("POLZERO1")) - 1.0,
        float(value("POLZERO2")) - 1.0,
        float(value("POLSCAL1")),
        float(value("POLSCAL2")),
        sampling,
    )
