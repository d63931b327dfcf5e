"""Parameters of a job: a frozen dataclass is the one source of options, TOML, fingerprints and provenance."""

import dataclasses
import difflib
import hashlib
import inspect
import json
import math
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from skytrawl.errors import ParameterError

T = TypeVar("T")

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}
_NONE = {"none", ""}


@dataclass(frozen=True)
class ParameterInfo:
    """One parameter as faces show it: name, annotation, default, help, unit and allowed values."""

    name: str
    annotation: Any
    default: Any
    required: bool
    help: str = ""
    unit: str = ""
    choices: tuple[Any, ...] = ()

    @property
    def is_flag(self) -> bool:
        """True for a plain boolean."""
        return self.annotation is bool

    @property
    def type_name(self) -> str:
        """The annotation in words, as help texts show it."""
        return type_name(self.annotation)


def option(default: Any, text: str, unit: str = "", choices: tuple[Any, ...] = ()) -> Any:
    """A field of a parameter dataclass: default, help, unit and allowed values."""
    return dataclasses.field(default=default, metadata={"help": text, "unit": unit, "choices": choices})


def parameters_of(cls: type) -> tuple[ParameterInfo, ...]:
    """Describe the parameters of a dataclass.

    Parameters
    ----------
    cls : type
        Dataclass; ``field(metadata={"help": ..., "unit": ..., "choices": ...})`` is read. Where a field
        says nothing, as in the records of the kernels, the docstring of its class does.

    Returns
    -------
    tuple of ParameterInfo
        In the order of declaration.
    """
    hints = typing.get_type_hints(cls)
    texts = {name: text for base in reversed(cls.__mro__) for name, text in documented(base).items()}
    found = []
    for field in dataclasses.fields(cls):
        default, required = field.default, False
        if default is dataclasses.MISSING:
            if field.default_factory is dataclasses.MISSING:
                default, required = None, True
            else:
                default = field.default_factory()
        annotation = hints[field.name]
        choices = tuple(field.metadata.get("choices", ())) or _literal_choices(annotation)
        found.append(
            ParameterInfo(
                field.name,
                annotation,
                default,
                required,
                field.metadata.get("help") or texts.get(field.name, ""),
                field.metadata.get("unit", ""),
                choices,
            )
        )
    return tuple(found)


def documented(cls: type) -> dict[str, str]:
    """What the section "Parameters" of a class's numpydoc docstring says of each name, as one line each."""
    lines = inspect.cleandoc(cls.__dict__.get("__doc__") or "").splitlines()
    found: dict[str, list[str]] = {}
    names: list[str] = []
    inside = False
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if following and set(following) == {"-"}:
            inside = line == "Parameters"
        elif not inside or not line or set(line) == {"-"}:
            continue
        elif line.startswith(" "):
            for name in names:
                found[name].append(line.strip())
        else:
            names = [name.strip() for name in line.partition(" : ")[0].split(",")]
            found.update({name: [] for name in names})
    return {name: " ".join(text).rstrip(".") for name, text in found.items()}


def build(cls: type[T], values: Mapping[str, Any] | None = None, /, **more: Any) -> T:
    """Make the parameters of a job from plain values, whatever face they come from.

    Strings are read by the annotation of the parameter ("none" for an optional one, "nan" and "inf"
    for a float, "a,b" for a tuple); names may carry dashes.

    Parameters
    ----------
    cls : type
        Frozen dataclass of parameters.
    values, **more
        Values by name; the later ones win.

    Raises
    ------
    ParameterError
        Unknown name (with the nearest one), missing value, wrong type, value outside the choices.
    """
    infos = {info.name: info for info in parameters_of(cls)}
    given: dict[str, Any] = {}
    for raw, value in {**(values or {}), **more}.items():
        name = raw.replace("-", "_")
        if name not in infos:
            raise ParameterError(_unknown(raw, list(infos), "parameter"))
        given[name] = check(infos[name], value)
    missing = [name for name, info in infos.items() if info.required and name not in given]
    if missing:
        raise ParameterError(f"missing parameter {', '.join(missing)}: give a value, e.g. {missing[0]}=...")
    try:
        return cls(**given)
    except ParameterError:
        raise
    except (TypeError, ValueError) as error:
        raise ParameterError(f"parameters of {cls.__name__}: {error}") from error


def check(info: ParameterInfo, value: Any) -> Any:
    """Coerce one value to the annotation of its parameter and test it against the choices."""
    try:
        result = coerce(value, info.annotation)
    except (TypeError, ValueError) as error:
        allowed = f", one of {_listed(info.choices)}" if info.choices else ""
        raise ParameterError(
            f"parameter {info.name}: {value!r} is not {info.type_name}{allowed} ({error})"
        ) from error
    if info.choices and result is not None:
        items = result if isinstance(result, tuple) else (result,)
        for item in items:
            if item not in info.choices:
                near = _nearest(str(item), [str(choice) for choice in info.choices])
                raise ParameterError(
                    f"parameter {info.name}: {item!r} is not allowed; choose one of "
                    f"{_listed(info.choices)}{near}"
                )
    return result


def coerce(value: Any, annotation: Any) -> Any:
    """Read a value, often text, as the annotated type; ValueError or TypeError when it does not fit."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return _coerce_union(value, arguments)
    if origin is typing.Literal:
        for choice in arguments:
            if value == choice or (isinstance(value, str) and value == str(choice)):
                return choice
        raise ValueError(f"allowed: {_listed(arguments)}")
    if origin is tuple:
        return _coerce_tuple(value, arguments)
    if origin in (list, Sequence):
        return _coerce_tuple(value, (arguments[0], ...))
    if isinstance(value, np.generic):
        value = value.item()
    return _coerce_scalar(value, annotation)


def _coerce_union(value: Any, arguments: tuple[Any, ...]) -> Any:
    if types.NoneType in arguments and (
        value is None or (isinstance(value, str) and value.strip().lower() in _NONE)
    ):
        return None
    problems = []
    for argument in arguments:
        if argument is types.NoneType:
            continue
        try:
            return coerce(value, argument)
        except (TypeError, ValueError) as error:
            problems.append(str(error))
    raise ValueError("; ".join(problems))


def _coerce_tuple(value: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if isinstance(value, str):
        items: list[Any] = [part.strip() for part in value.split(",") if part.strip()]
    elif isinstance(value, (list, tuple, np.ndarray)):
        items = list(value)
    else:
        raise TypeError("expected a list, or text with commas")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(coerce(item, arguments[0]) for item in items)
    if arguments and len(items) != len(arguments):
        raise ValueError(f"expected {len(arguments)} values, found {len(items)}")
    return tuple(coerce(item, kind) for item, kind in zip(items, arguments, strict=True))


def _coerce_scalar(value: Any, kind: Any) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
        word = str(value).strip().lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        raise ValueError("expected true or false")
    if kind is int:
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise ValueError("expected a whole number")
        return int(value)
    if kind is float:
        if isinstance(value, bool):
            raise ValueError("expected a number")
        return float(value)
    if kind is str:
        if not isinstance(value, (str, Path)):
            raise TypeError("expected text")
        return str(value)
    if isinstance(value, kind):
        return value
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"expected {type_name(kind)}")


def parameter_dict(parameters: Any) -> dict[str, Any]:
    """Plain JSON values of a parameter dataclass: tuples as lists, paths as text, nan as "nan"."""
    return {field.name: plain(getattr(parameters, field.name)) for field in dataclasses.fields(parameters)}


def plain(value: Any) -> Any:
    """The JSON form of a value; non-finite floats become text, because JSON has none."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return parameter_dict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in parameters: {value!r}")


def fingerprint(value: Any) -> str:
    """16 hex digits of the sha256 of the canonical JSON of a value (sorted keys, no spaces)."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def content_fingerprint(payload: Mapping[str, Any]) -> str:
    """16 hex digits of the sha256 of named arrays and plain values, with dtype and shape."""
    digest = hashlib.sha256()
    for name in sorted(payload):
        value = payload[name]
        digest.update(name.encode() + b"\0")
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype.str}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        else:
            digest.update(fingerprint(value).encode())
    return digest.hexdigest()[:16]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """In words, what differs between two sets of parameters; empty when nothing does."""
    left, right = plain(old), plain(new)
    lines = []
    for name in sorted({*left, *right}):
        if name not in left:
            lines.append(f"{name}: absent before, now {right[name]!r}")
        elif name not in right:
            lines.append(f"{name}: {left[name]!r} before, now absent")
        elif left[name] != right[name]:
            lines.append(f"{name}: {left[name]!r} before, now {right[name]!r}")
    return lines


def read_toml(path: str | Path, table: str | None = None) -> dict[str, Any]:
    """Values of a TOML file; with `table` those below ``[table]``, or the whole file if it has none.

    Raises
    ------
    ParameterError
        The file is absent or no TOML.
    """
    try:
        values = tomllib.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError as error:
        raise ParameterError(f"{path}: no such parameter file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: not a TOML file: {error}") from error
    return values[table] if table is not None and isinstance(values.get(table), dict) else values


def from_toml(cls: type[T], path: str | Path, table: str | None = None, **overrides: Any) -> T:
    """Parameters from a TOML file; `overrides` (a command line's options) win."""
    values = read_toml(path, table)
    try:
        return build(cls, values, **overrides)
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from error


def to_toml(parameters: Any) -> str:
    """Parameters as TOML text that `from_toml` reads back; None is left out, as TOML has no null."""
    lines = []
    for name, value in parameter_dict(parameters).items():
        if value is not None:
            lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def type_name(annotation: Any) -> str:
    """A type annotation in words: ``tuple[float, ...] | None`` is "numbers, or none"."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    if origin in (types.UnionType, typing.Union):
        parts = [type_name(a) for a in arguments if a is not types.NoneType]
        return " or ".join(parts) + (", or none" if types.NoneType in arguments else "")
    if origin is typing.Literal:
        return f"one of {_listed(arguments)}"
    if origin in (tuple, list, Sequence):
        if (len(arguments) == 2 and arguments[1] is Ellipsis) or origin is not tuple:
            return f"a list (each {type_name(arguments[0])})"
        return "(" + ", ".join(type_name(a) for a in arguments) + ")"
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _literal_choices(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    return ()


def _unknown(name: str, known: list[str], what: str) -> str:
    return f"unknown {what} {name!r}{_nearest(name, known)}; known: {', '.join(known) or 'none'}"


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.replace("-", "_"), known, 1) or difflib.get_close_matches(
        name, known, 1
    )
    return f" (did you mean {near[0]!r}?)" if near else ""


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(str(value) for value in values)
