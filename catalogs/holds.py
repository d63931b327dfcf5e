"""Locks that the operating system releases when their holder dies, however it dies."""

import errno
import os
import platform
import time
import weakref
from pathlib import Path
from typing import IO

# Somebody may only be asking whether the lock is held.
_TRIES, _PAUSE = 5, 0.02


def acquire(path: Path) -> IO[str]:
    """Open a lock file (made if need be) and lock it for this process alone.

    On a file system without locks, or an operating system without `flock`, nothing is held.

    Returns
    -------
    file
        Holds the lock until it is closed, or the process ends. To remove the file, do so before closing.

    Raises
    ------
    BlockingIOError
        If another holds it, of this process or any other; the message is the text of the file.
    """
    tries = _TRIES
    while True:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (the caller closes it)
        try:
            _lock(file)
            # If not, its holder has just finished and removed it: the lock is on a file without name.
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass
        except BlockingIOError:
            file.seek(0)
            holder = file.read()
            file.close()
            tries -= 1
            if not tries:
                raise BlockingIOError(holder) from None
            time.sleep(_PAUSE)
            continue
        except BaseException:
            file.close()
            raise
        file.close()


def is_held(path: Path, *, remove: bool = False) -> bool:
    """Whether a living process holds this lock; False if there is no such file.

    Parameters
    ----------
    path : Path
        Lock file.
    remove : bool
        Remove the file of a holder that has died.
    """
    try:
        file = open(path, "r+", encoding="utf-8")  # noqa: SIM115 (closed below)
    except FileNotFoundError:
        return False
    with file:
        try:
            _lock(file)
        except BlockingIOError:
            return True
        if remove:
            path.unlink(missing_ok=True)  # while it is ours: who waits for it sees that it has gone
        return False


def describe() -> str:
    """Who holds a lock, for the message to others."""
    return f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"


class Hold:
    """A lock held by an object: until :meth:`release`, the end of the object or of the process.

    Parameters
    ----------
    path : Path
        Lock file; its folder is made if need be, the file is removed at release.

    Raises
    ------
    BlockingIOError
        If another holds it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = acquire(path)
        file.seek(0)
        file.truncate()
        file.write(describe())
        file.flush()
        self.release = weakref.finalize(self, _release, file, path, os.getpid())
        """Let the next one in; once is enough."""

    def __enter__(self) -> "Hold":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _release(file: IO[str], path: Path, process: int) -> None:
    if os.getpid() == process:  # not the copy of a forked child
        path.unlink(missing_ok=True)
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
