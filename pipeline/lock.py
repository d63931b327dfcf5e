"""One driver at a time: a lock that the operating system releases when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

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
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    file = _locked(path)
    try:
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        file.flush()
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _locked(path: Path) -> IO[str]:
    while True:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (the caller closes it)
        try:
            _lock(file)
            # If not, its holder has just finished and removed it: the lock is on a file without name.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except BlockingIOError:
            file.seek(0)
            holder = file.read()
            file.close()
            raise PreflightError(
                f"another driver ({holder}) is at work in {path.parent}: wait until it has finished, or "
                "choose another output path"
            ) from None
        file.close()


def _lock(file: IO[str]) -> None:
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK):
            raise
