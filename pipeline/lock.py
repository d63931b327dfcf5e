"""One driver at a time: a lock that the operating system releases when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from skytrawl.catalogs.holds import Hold
from skytrawl.errors import PreflightError

NAME = "driver.lock"


@contextlib.contextmanager
def only_driver(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder (made if need be); the file goes when the lock is released.

    A second driver would not change a value: the same shards hold the same bits, and ledger entries count
    once. But all work would be done twice, and the two would tidy each other's files away. On a file
    system without locks, or an operating system without `flock`, nothing is held.

    Raises
    ------
    PreflightError
        If another driver, of this process or any other, holds it; names it.
    """
    try:
        hold = Hold(folder / NAME)
    except BlockingIOError as error:
        raise PreflightError(
            f"another driver ({error}) is at work in {folder}: wait until it has finished, or "
            "choose another output path"
        ) from None
    with hold:
        yield
