"""Where the columns of a light curve lie in a table with one row an object."""

from dataclasses import dataclass, field
from typing import Any

from skytrawl.catalogs.readers.columns import USUAL
from skytrawl.errors import IngestError

_OF_OBJECTS = frozenset(name for role in ("object", "ra", "dec", "class") for name in USUAL[role])


@dataclass(frozen=True)
class Field:
    """A column of a light curve: field `name` of the nested `column`; None if the column is a plain list."""

    column: str
    name: str | None
    of_structs: bool = False


@dataclass(frozen=True)
class Layout:
    """Columns of objects and of light curves, by the names that they go by.

    Attributes
    ----------
    objects : list of str
        Columns with one value an object.
    rows : dict of str to Field
        Names of columns with a list an object; a field may have two names.
    groups : list of str
        Nested columns; "" stands for plain list columns.
    units : dict of str to str
    """

    objects: list[str] = field(default_factory=list)
    rows: dict[str, Field] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    units: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """All names."""
        return (*self.rows, *(name for name in self.objects if name not in self.rows))

    def types(self, schema: Any) -> Any:
        """Schema of the long table: types of values, not of lists."""
        import pyarrow as pa

        fields = {name: schema.field(name).type for name in self.objects}
        for name, place in self.rows.items():
            kind = schema.field(place.column).type
            if place.of_structs:
                fields[name] = kind.value_type.field(place.name).type
            else:
                fields[name] = (kind if place.name is None else kind.field(place.name).type).value_type
        return pa.schema(list(fields.items()))


def layout_of(schema: Any, nested: str | None, where: str) -> Layout:
    """Find the nested columns of a table.

    Names of the fields of a nested column are also offered without its name where there is one nested column
    or `nested` names it. Where an object has a column of the same name, it keeps the name if that means an
    identifier, position or class, and is not offered otherwise.

    Parameters
    ----------
    schema : pyarrow.Schema
    nested : str, optional
        Name of the nested column to take.
    where : str
        Name of the source, for messages.

    Raises
    ------
    IngestError
        If `nested` names none.
    """
    import pyarrow as pa

    groups: dict[str, dict[str, tuple[Field, Any]]] = {}
    found = Layout()
    for column in schema:
        kind = column.type
        if pa.types.is_struct(kind) and any(_is_list(child.type) for child in kind):
            fields = {
                child.name: (Field(column.name, child.name), child) for child in kind if _is_list(child.type)
            }
            groups[column.name] = fields
        elif _is_list(kind) and pa.types.is_struct(kind.value_type):
            groups[column.name] = {
                child.name: (Field(column.name, child.name, True), child) for child in kind.value_type
            }
        elif _is_list(kind):
            groups.setdefault("", {})[column.name] = (Field(column.name, None), column)
        else:
            found.objects.append(column.name)
            _unit(found, column.name, column)
    if nested is not None and nested not in groups:
        known = ", ".join(name for name in groups if name) or "none"
        raise IngestError(f"{where} has no nested column {nested!r}: it has {known}")
    named = [name for name in groups if name]
    chosen = nested if nested is not None else named[0] if len(named) == 1 else "" if not named else None
    found.groups.extend(groups)
    for group, fields in groups.items():
        if nested is not None and group != nested:
            continue
        for name, (place, child) in fields.items():
            qualified = f"{group}.{name}" if group else name
            bare = group == chosen and not (name in found.objects and name.lower() in _OF_OBJECTS)
            for alias in (name, qualified) if bare else (qualified,):
                if group or group == chosen:
                    found.rows[alias] = place
                    found.units.pop(alias, None)
                    _unit(found, alias, child)
    return found


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _unit(found: Layout, name: str, column: Any) -> None:
    stated = (column.metadata or {}).get(b"unit")
    if stated:
        found.units[name] = stated.decode()
