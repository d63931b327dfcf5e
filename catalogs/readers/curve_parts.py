"""A part of a file with one light curve: what stands above the rows, and what the place of the file tells."""

import re
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from skytrawl.catalogs.surveys.files import PARENT, STEM, Files


class Fault(Exception):
    """What is wrong with a file as a whole."""


@dataclass(frozen=True)
class Part:
    """Text of a file, or of a part of it, below its comments and titles.

    Attributes
    ----------
    name : str
        Path below the source.
    text : bytes
        Lines that end with a line feed.
    first_line : int
        Number of the first of them in the file.
    heading : tuple of str or None
        Names in the header line; None if there is none.
    width : int
        Fields of a line.
    rows : int
        Number of lines of `text`.
    end : int
        Number of the line after the part.
    plain : bool
        Whether every line should be a row.
    first : str
        First field of the first row.
    """

    name: str
    text: bytes
    first_line: int
    heading: tuple[str, ...] | None
    width: int
    rows: int
    end: int
    plain: bool
    first: str

    @classmethod
    def of(cls, text: bytes, name: str, line: int, form: Files, before: "Part | None") -> "Part":
        """The part of a text; `before` is the part of the file above it.

        Raises
        ------
        Fault
            If the text is none.
        """
        if b"\0" in text:
            raise Fault("it holds zero bytes, so it is no text of this encoding")
        heading = None if before is None else before.heading
        comment = form.comment.encode()
        start, top = 0, before is None
        while True:
            stop = text.find(b"\n", start)
            row = text[start:stop].strip()
            if stop < 0 or not (not row or (comment and row.startswith(comment)) or top):
                break
            if top and row and not (comment and row.startswith(comment)):
                top = False
                fields = split(row, form.delimiter)
                if form.columns:
                    if not form.heading or is_number(fields[0]):
                        break
                elif is_number(fields[0]):
                    break
                else:
                    heading = tuple(fields)
            start, line = stop + 1, line + 1
        text = text[start:] if start else text
        rows = text.count(b"\n")
        end = line + rows
        if text.endswith((b"\n\n", b" \n")):
            text = text.rstrip() + b"\n"
            rows = text.count(b"\n")
        if not rows and before is None:
            raise Fault("it holds no rows")
        fields = split(text[: text.find(b"\n")], form.delimiter)
        width = len(heading) if heading is not None else len(fields)
        plain = not (comment and comment in text)
        return cls(name, text, line, heading, width, rows, end, plain, fields[0] if fields else "")


def split(row: bytes, delimiter: str) -> list[str]:
    """Fields of a line."""
    text = row.decode(errors="replace")
    return text.split() if delimiter == " " else [field.strip(' "') for field in text.split(delimiter)]


def is_number(text: str) -> bool:
    """Whether a text is a number."""
    try:
        return "_" not in text and isfinite(float(text))
    except ValueError:
        return False


def column_names(part: Part, form: Files) -> tuple[str, ...]:
    """Names of all columns that can be asked for: of the file, and of its place."""
    if part.heading is not None:
        names = list(part.heading)
    else:
        names = [*form.columns[: part.width], *(str(place + 1) for place in range(part.width))]
    names += [f"{{{name}}}" for name in ("stem", "parent", *re.compile(form.path).groupindex)]
    given = {"object": form.object, "band": form.band, "upper_limit": form.limit_mark}
    return tuple(dict.fromkeys([*names, *(role for role, text in given.items() if text)]))


def place_names(name: str, source: Path, alone: bool, form: Files) -> dict[str, str]:
    """What the place of a file tells, by column.

    Raises
    ------
    Fault
        If the path does not fit the pattern of the form.
    """
    folder, _, base = name.rpartition("/")
    parent = folder.rpartition("/")[2] or (source.parent.name if alone else source.name)
    found = {STEM: form.stem(base), PARENT: parent}
    groups: dict[str, str] = {}
    if form.path:
        match = re.search(form.path, str(source) if alone else f"{source.name}/{name}")
        if match is None:
            raise Fault(f"its path does not fit {form.path!r}")
        groups = {f"{{{group}}}": text or "" for group, text in match.groupdict().items()}
        found |= groups
    for role, text in (("object", form.object), ("band", form.band)):
        for brace in [STEM, PARENT, *groups]:
            text = text.replace(brace, found[brace])
        found[role] = text
    return found
