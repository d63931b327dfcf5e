"""Folders of very many small files: listed once, and named in pieces by texts of a few bytes a file."""

import base64
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from skytrawl.catalogs.surveys.files import Files

_SEPARATOR = "\0"  # the one character that no path holds


def walk(folder: Path, files: Files, others: Counter[str]) -> Iterator[tuple[str, int]]:
    """Paths below a folder, with /, and sizes in bytes of all files of a form, in the order of their names.

    Parameters
    ----------
    folder : Path
    files : Files
    others : Counter
        Takes the numbers of files of other forms by suffix. Hidden files and folders are passed over.
    """
    pending = [""]
    while pending:
        below = pending.pop()
        top = os.path.join(folder, below)
        names: list[str] = []
        folders: list[str] = []
        with os.scandir(top) as found:
            for entry in found:
                if entry.name[0] == "." or (entry.is_symlink() and _leads_up(top, entry.name)):
                    continue
                (folders if entry.is_dir() else names).append(entry.name)
        pending += [f"{below}{name}/" for name in sorted(folders, reverse=True)]
        for name in sorted(names):
            if files.takes(name):
                yield below + name, _size(top + name)
            else:
                others[Path(name).suffix] += 1


def _leads_up(folder: str, link: str) -> bool:
    return os.path.realpath(folder).startswith(os.path.realpath(folder + link))


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size
    except OSError:  # a link to nothing: reading it tells
        return 0


def first_file(folder: Path, files: Files) -> str | None:
    """The first path that :func:`walk` yields; None if there is none."""
    return next((path for path, _ in walk(folder, files, Counter())), None)


def pack(paths: Sequence[str]) -> str:
    """Many paths as one ASCII text, a few bytes each: neighbours in a folder have much in common."""
    text = _SEPARATOR.join(paths).encode("utf-8", "surrogateescape")
    return base64.b85encode(zlib.compress(text, 6)).decode()


def unpack(packed: str) -> list[str]:
    """What :func:`pack` was given."""
    text = zlib.decompress(base64.b85decode(packed)).decode("utf-8", "surrogateescape")
    return text.split(_SEPARATOR)
