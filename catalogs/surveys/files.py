"""How the files of a survey are laid out that hold one light curve each."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from skytrawl.catalogs.schema import Issue
from skytrawl.errors import ParameterError

STEM, PARENT = "{stem}", "{parent}"
_TEXTS = ("suffixes", "columns", "time_formats")
_TEXT = ("delimiter", "comment", "object", "band", "path", "limit_mark")


@dataclass(frozen=True)
class Files:
    """One form of files with one light curve each; ``[[files]]`` of a survey description.

    Attributes
    ----------
    suffixes : tuple of str
        Ends of their names in lower case, such as ".dat"; ".gz" may follow. () takes files of any name.
    columns : tuple of str
        Names of the columns of files without header line, the first ones at least of each line. () where a
        line of names heads the file; files that begin with a number have none, and their columns are called
        1, 2, 3.
    delimiter : str
        " " for any run of spaces and tabs.
    comment : str
        What lines to be passed over begin with.
    heading : bool
        Whether the first line of a file with `columns` may hold titles: it is passed over if it does not
        begin with a number.
    object, band : str
        Text in which "{stem}" is the name of the file without its suffix, "{parent}" the name of its folder,
        and "{<name>}" a group of `path`. An empty `band` leaves it to a column of the file.
    path : str
        Regular expression with named groups, searched for in the path of the file from the folder given on,
        with / and the name of that folder.
    limit_mark : str
        What stands before a number that is an upper limit.
    time_formats : tuple of str
        Forms of time in which the files come, told apart by the first time of each file.
    """

    suffixes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    delimiter: str = " "
    comment: str = "#"
    heading: bool = False
    object: str = STEM
    band: str = ""
    path: str = ""
    limit_mark: str = ""
    time_formats: tuple[str, ...] = ()

    def takes(self, name: str) -> bool:
        """Whether a file of this name is of this form."""
        return name.lower().removesuffix(".gz").endswith(self.suffixes or "")

    def stem(self, name: str) -> str:
        """The name of a file without suffix."""
        plain = name[:-3] if name.lower().endswith(".gz") else name
        for suffix in self.suffixes:
            if plain.lower().endswith(suffix):
                return plain[: -len(suffix)]
        head, dot, _ = plain.rpartition(".")
        return head if dot and head else plain

    def to_dict(self) -> dict[str, Any]:
        """The keys that differ from their defaults, in JSON types."""
        plain = asdict(Files())
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
            if value != plain[key]
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Files":
        """What :meth:`to_dict` gave, or a checked table of a survey description."""
        known: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in found.items()
            if key in cls.__dataclass_fields__
        }
        return cls(**known)


def files_issues(found: Any) -> list[Issue]:
    """Every fault of the ``[[files]]`` of a survey description."""
    if not isinstance(found, list):
        return [Issue("files", "is no list of tables", repr(found), "one [[files]] table a form")]
    issues: list[Issue] = []
    for number, table in enumerate(found):
        where = f"files[{number}]"
        if not isinstance(table, Mapping):
            issues.append(Issue(where, "is no table", repr(table), "[[files]]"))
            continue
        known = Files.__dataclass_fields__
        issues += [
            Issue(f"{where}/{key}", "unknown key", key, ", ".join(sorted(known)))
            for key in table
            if key not in known
        ]
        for key in _TEXTS:
            value = table.get(key, [])
            if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
                issues.append(Issue(f"{where}/{key}", "is no list of texts", repr(value)))
        issues += [
            Issue(f"{where}/{key}", "is no text", repr(table[key]))
            for key in _TEXT
            if not isinstance(table.get(key, ""), str)
        ]
        if not isinstance(table.get("heading", False), bool):
            issues.append(Issue(f"{where}/heading", "is neither true nor false", repr(table["heading"])))
        if not issues:
            issues += _meaning(Files.from_dict(table), where)
    return issues


def _meaning(files: Files, where: str) -> list[Issue]:
    from skytrawl.catalogs.times import parse_time_format  # which itself reads tables

    issues = []
    groups: set[str] = set()
    try:
        groups = set(re.compile(files.path).groupindex)
    except re.error as error:
        issues.append(Issue(f"{where}/path", f"is no regular expression ({error})", files.path))
    for key, text in (("object", files.object), ("band", files.band)):
        issues += [
            Issue(f"{where}/{key}", "unknown name in braces", name, ", ".join(["stem", "parent", *groups]))
            for name in re.findall(r"\{(.*?)\}", text)
            if name not in {"stem", "parent", *groups}
        ]
    if len(files.delimiter) != 1:
        issues.append(Issue(f"{where}/delimiter", "is no single character", repr(files.delimiter)))
    for suffix in files.suffixes:
        if suffix != suffix.lower() or suffix.endswith(".gz"):
            issues.append(Issue(f"{where}/suffixes", "is not in lower case without .gz", suffix))
    for form in files.time_formats:
        try:
            parse_time_format(form)
        except ParameterError as error:
            issues.append(Issue(f"{where}/time_formats", str(error), form))
    return issues
