"""A job over images: units of work that are frames of a store, one frame of the results each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skytrawl.job import BaseJob, Prepared

if TYPE_CHECKING:
    from skytrawl.catalogs.images.frame import Frame
    from skytrawl.catalogs.images.store import FrameStore


@dataclass(frozen=True, slots=True)
class Unit:
    """One piece of work: the frame to make, and what it is made from.

    Attributes
    ----------
    id : str
        Of the frame in the results.
    inputs : tuple of str
        Ids of the frames of the store that are read.
    content : str
        Hash of the contents of all inputs, those of other stores included: another content is another unit.
    pixels : int
        Pixels that are read; the measure of work.
    extra : str
        Frame of another store that is read as well (a reference), "" if none.
    """

    id: str
    inputs: tuple[str, ...]
    content: str
    pixels: int
    extra: str = ""


def prepare_nothing(parameters: Any, store: FrameStore) -> Prepared:
    """The `prepare` of a job without other inputs."""
    return Prepared()


def close_nothing(out: FrameStore, parameters: Any, prepared: Prepared, store: FrameStore) -> None:
    """The `close` of a job whose frames are all of its results."""


@dataclass(frozen=True, kw_only=True)
class FrameJob(BaseJob):
    """A job over the frames of a store; the counterpart of :class:`skytrawl.job.Job` for images.

    All callables are module-level functions (workers receive them by the job's name).

    Attributes
    ----------
    over : tuple of str
        Kinds of stores that it runs over ("exposures").
    gives : str
        Kind of the store of results.
    units : (parameters, prepared, store) -> list of Unit
        The work, in the order of the ids.
    make : (store, unit, parameters, prepared, backend) -> Frame
        One frame of the results. An ImageError, or the ParameterError of a kernel that the image does not
        suit, becomes a frame without arrays whose row says "refused" and why; any other error counts as a
        failure that is tried again.
    memory : (unit, parameters, prepared) -> int
        Bytes that making it takes at most.
    quantise : (parameters) -> dict of str to float, optional
        Planes that are stored as integers, and the fraction of their noise that one step is.
    planes : int
        Planes of 32 bits a pixel read that a frame of the results has; 0 for tables.
    keeps : tuple of str
        Columns that a frame of the results has from its first input, refused ones as well.
    close : (out, parameters, prepared, store) -> None
        Runs on the driver when the table of frames is published.
    """

    over: tuple[str, ...]
    gives: str
    units: Callable[[Any, Prepared, FrameStore], list[Unit]]
    make: Callable[[FrameStore, Unit, Any, Prepared, str], Frame]
    memory: Callable[[Unit, Any, Prepared], int]
    prepare: Callable[[Any, FrameStore], Prepared] = prepare_nothing
    quantise: Callable[[Any], dict[str, float]] | None = None
    close: Callable[[FrameStore, Any, Prepared, FrameStore], None] = close_nothing
    planes: int = 1
    keeps: tuple[str, ...] = ()
    kind: str = "frames"
