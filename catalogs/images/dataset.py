"""Cutouts of candidates as samples for training, read when they are asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skytrawl.catalogs.images.cutouts import Cutouts
from skytrawl.catalogs.images.export_candidates import CUTOUTS, MASK, Candidates
from skytrawl.catalogs.images.export_source import Source
from skytrawl.catalogs.images.export_truth import RADIUS
from skytrawl.catalogs.images.planes import Plane
from skytrawl.errors import ParameterError
from skytrawl.kernels import flags

NONE = ""
_BLOCKS = 32  # chunks of cutouts kept in memory, of about 256 kB each


class CutoutDataset:
    """Map-style data set over the cutouts of a detection run, for `torch.utils.data.DataLoader`.

    Samples are dictionaries of NumPy arrays and numbers, which the loader makes tensors of; nothing here
    needs torch. Of the cutouts only the chunks that hold the asked ones are read, and a batch reads each of
    them once. Pickling takes the path and the table along and no pixels, so that workers may be processes of
    any kind.

    Parameters
    ----------
    path : str or Path
        What `skytrawl run detect` wrote.
    planes : sequence of {"science", "reference", "difference"}
        Channels, in this order.
    normalise : str or None
        Plane whose noise divides all channels, see
        :meth:`skytrawl.catalogs.images.cutouts.Cutouts.normalised`; None leaves the flux as it is.
    mask : bool
        Append a channel that is 1 where a pixel is unusable or outside the image, else 0.
    columns : sequence of str
        Columns of the candidate table that come with each sample, such as ``("snr", "ra")``.
    frames : sequence of str, optional
        Ids or patterns of frames; all by default.
    where : callable, optional
        Takes the candidate table (dict of arrays) and returns which rows to use, as a boolean array.
    truth : path or mapping, optional
        Truth table or the folder that holds it: samples get ``label``, ``truth_flux`` and
        ``truth_confidence``.
    radius : float, pixel
        Between candidates and true sources.
    classes : sequence of str, optional
        Types of true sources in the order of their labels, 1 for the first, so that several sets agree; by
        default those that occur here, sorted.
    transform : callable, optional
        Applied to each sample.
    version : int, optional
        Of the run's store; the latest by default.

    Attributes
    ----------
    table : dict of str to array
        Columns of the candidates, in the order of the samples: by frame, then by row.
    classes : tuple of str
        Meaning of ``label``: classes[0] is "" (no true source), then types of true sources.
    shape : (channels, size, size)

    Raises
    ------
    ImageError
        If the run made no cutouts.
    ParameterError
        For unknown planes or columns, or classes that lack a type.

    Examples
    --------
    >>> data = skytrawl.CutoutDataset("candidates")  # doctest: +SKIP
    >>> loader = torch.utils.data.DataLoader(data, batch_size=64, num_workers=2)  # doctest: +SKIP
    >>> batch = next(iter(loader))["image"]  # float32[64, 4, 63, 63]  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | Path,
        *,
        planes: Sequence[str] = ("science", "reference", "difference"),
        normalise: str | None = "difference",
        mask: bool = True,
        columns: Sequence[str] = (),
        frames: Sequence[str] | None = None,
        where: Callable[[Mapping[str, np.ndarray]], ArrayLike] | None = None,
        truth: str | Path | Mapping[str, np.ndarray] | None = None,
        radius: float = RADIUS,
        classes: Sequence[str] | None = None,
        transform: Callable[[dict[str, Any]], Any] | None = None,
        version: int | None = None,
    ) -> None:
        source = Source(path, frames, version)
        if source.kind != "candidates":
            raise ParameterError(f"{path} holds {source.kind}: cutouts are made by `skytrawl run detect`")
        found = Candidates(source, truth, radius)
        found.require_cutouts()
        table = dict(found.table.columns)
        rows = np.arange(len(found))
        if where is not None:
            chosen = np.asarray(where(table))
            if chosen.dtype != np.bool_ or chosen.shape != rows.shape:
                raise ParameterError(
                    f"where gave {chosen.dtype} of shape {chosen.shape}: it must give one bool a candidate, "
                    f"shape {rows.shape}"
                )
            rows = rows[chosen]
        known = found.planes or list(planes)
        wrong = [name for name in (*planes, *([normalise] if normalise else [])) if name not in known]
        wrong += [name for name in columns if len(rows) and name not in table]
        if wrong or not planes:
            raise ParameterError(
                f"no plane or column {', '.join(wrong) or 'at all'}: planes are {', '.join(known)}, columns "
                f"{', '.join(table)}"
            )
        self.store = found.source.store
        self.table = {name: values[rows] for name, values in table.items()}
        self.planes, self.normalise, self.mask = tuple(planes), normalise, bool(mask)
        self.columns, self.transform = tuple(columns), transform
        self.shape = (len(self.planes) + self.mask, found.size, found.size)
        self._known = tuple(known)
        self._blocks: OrderedDict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._opened: dict[str, tuple[Plane, Plane]] = {}
        self.classes: tuple[str, ...] = ()
        self._label: np.ndarray | None = None
        if truth is not None:
            kinds = np.char.decode(self.table["truth_type"])
            found_kinds = sorted(set(kinds.tolist()) - {NONE})
            self.classes = (NONE, *(found_kinds if classes is None else classes))
            unknown = [name for name in found_kinds if name not in self.classes]
            if unknown:
                raise ParameterError(f"classes lack {', '.join(unknown)}, which true sources here are of")
            self._label = np.array([self.classes.index(name) for name in kinds.tolist()], np.int64)

    def __len__(self) -> int:
        return len(self.table.get("row", ()))

    def __repr__(self) -> str:
        return f"<CutoutDataset {self.store.path}: {len(self)} of shape {self.shape}>"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_blocks": OrderedDict(), "_opened": {}}

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Samples of a batch, which the loader asks for at once.

        Returns
        -------
        list of dict
            ``image`` float32[channels, size, size] (sigma, or the unit of the cutouts; 0 outside the image
            and where a pixel is NaN), ``noise`` (what it was divided by; 1 if not at all, NaN where there is
            no noise to measure), ``candidate`` (row of the run's catalogue), the columns asked for, and with
            a truth table ``label`` (number in `classes`), ``truth_flux`` [nJy] and ``truth_confidence``, NaN
            without a true source.
        """
        rows = np.asarray([_index(int(index), len(self)) for index in indices], np.int64)
        if not len(rows):
            return []
        stamps = np.empty((len(rows), len(self._known), *self.shape[1:]), np.float32)
        bits = np.empty((len(rows), *self.shape[1:]), np.uint16)
        # In the order of the store: a chunk of cutouts serves all samples that it holds.
        for place in np.argsort(rows, kind="stable").tolist():
            frame_id, row = self.table["exposure"][rows[place]].decode(), int(self.table["row"][rows[place]])
            stamps[place], bits[place] = self._stamp(frame_id, row)
        images, noise = self._scaled(stamps, bits)
        return [self._sample(int(row), images[n], float(noise[n])) for n, row in enumerate(rows)]

    def _sample(self, row: int, image: np.ndarray, noise: float) -> Any:
        sample: dict[str, Any] = {
            "image": image,
            "noise": noise,
            "candidate": int(self.table["candidate"][row]),
        }
        for name in self.columns:
            value = self.table[name][row].item()
            sample[name] = value.decode() if isinstance(value, bytes) else value
        if self._label is not None:
            sample["label"] = int(self._label[row])
            sample["truth_flux"] = float(self.table["truth_flux"][row])
            sample["truth_confidence"] = float(self.table["truth_confidence"][row])
        return sample if self.transform is None else self.transform(sample)

    def _scaled(self, stamps: np.ndarray, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = len(stamps)
        none = np.zeros(n, np.int64)
        if self.normalise:
            whole, noise = Cutouts(stamps, bits, self._known, none, none).normalised(self.normalise)
        else:
            whole, noise = np.where(np.isfinite(stamps), stamps, np.float32(0)), np.ones(n)
        images = np.empty((n, *self.shape), np.float32)
        images[:, : len(self.planes)] = whole[:, [self._known.index(name) for name in self.planes]]
        if self.mask:
            images[:, -1] = (bits & flags.UNUSABLE) != 0
        return images, noise

    def _stamp(self, frame_id: str, row: int) -> tuple[np.ndarray, np.ndarray]:
        if frame_id not in self._opened:
            self.store.record(frame_id)  # that the frame is still the one of this version
            self._opened[frame_id] = self.store.plane(frame_id, CUTOUTS), self.store.plane(frame_id, MASK)
        planes = self._opened[frame_id]
        step = planes[0].chunks[0]
        key = (frame_id, row // step)
        if key not in self._blocks:
            part = slice(key[1] * step, min((key[1] + 1) * step, planes[0].shape[0]))
            values = [
                self.store.read_plane(frame_id, name, plane, (part, *(slice(0, s) for s in plane.shape[1:])))
                for name, plane in zip((CUTOUTS, MASK), planes, strict=True)
            ]
            self._blocks[key] = values[0], values[1]
            if len(self._blocks) > _BLOCKS:
                self._blocks.popitem(last=False)
        stamps, bits = self._blocks[key]
        return stamps[row % step], bits[row % step]


def _index(index: int, length: int) -> int:
    if not -length <= index < length:
        raise IndexError(f"sample {index} of {length}")
    return index % length
