"""Header maps: which card of a survey's FITS files means what.

One TOML file a survey, in :mod:`skytrawl.catalogs.images.surveys`, whose docstring explains the keys.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from skytrawl.errors import ParameterError, SchemaError
from skytrawl.kernels import flags

PLANES = ("mask", "variance", "weight", "noise", "psf")
SCALES = ("utc", "tai", "tt", "tdb", "gps")
ROLES = (
    *(
        "mid",
        "start",
        "end",
        "exptime",
        "exposure",
        "detector",
        "field",
        "band",
        "unit",
        "gain",
        "read_noise",
    ),
    *("saturation", "fwhm_px", "fwhm_arcsec", "zero_point", "pixel_sr", "pointing_ra", "pointing_dec"),
)
_TOP = {
    "name",
    "title",
    "citation",
    "files",
    "keys",
    "time",
    "bands",
    "flux",
    "noise",
    "pointing",
    "planes",
    "masks",
}


@dataclass(frozen=True)
class Plane:
    r"""Where mask, noise or PSF of an image stand.

    Attributes
    ----------
    kind : {"mask", "variance", "weight", "noise", "psf"}
        "weight" is an inverse variance, "noise" a standard deviation.
    extension : tuple of str
        Names of extensions, tried in turn; in the file of the image, or in the sibling. Without one the
        sibling's extension of the image's own name or number is taken.
    match, sibling : str
        Regular expression over the path of the image (forward slashes), and what takes the place of what it
        matched: ``\1`` are its groups, ``{EXPNUM:08d}`` values of the header, ``*`` any text. Empty for
        planes in the same file.
    required : bool
        An image whose path matches, but whose sibling is not there, cannot be used.
    source_noise : bool
        Whether variances hold the Poisson noise of sources; where not, it is added with the gain.
    """

    kind: str
    extension: tuple[str, ...] = ()
    match: str = ""
    sibling: str = ""
    required: bool = False
    source_noise: bool = True


@dataclass(frozen=True)
class Bits:
    """What the values of a mask mean.

    Attributes
    ----------
    style : {"bits", "codes", "any"}
        Bit numbers, whole values of which a pixel has one, or "any": all values but 0 are bad.
    meanings : dict of str to tuple of int
        Name of a bit of :mod:`skytrawl.kernels.flags` to bit numbers or codes. Others are passed over.
    key, below : str
        Holds only for files whose card `key` gives a version less than `below`, such as "V3.5.0".
    """

    style: str
    meanings: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    key: str = ""
    below: str = ""


@dataclass(frozen=True)
class HeaderMap:
    """A survey's description of its FITS images; the package's docstring lists the keys."""

    name: str
    title: str
    citation: str
    keys: Mapping[str, tuple[str, ...]]
    passed_over: tuple[str, ...] = ()
    extensions: str = ""
    not_extensions: str = ""
    time_scale: str = "utc"
    band_pattern: str = ""
    bands: Mapping[str, str] = field(default_factory=dict)
    zero_point: float | None = None
    zero_point_exptime: float = 0.0
    stretch: str = "linear"
    gain_per_second: bool = False
    pointing_radius: float = 0.0
    planes: tuple[Plane, ...] = ()
    masks: tuple[Bits, ...] = ()

    def with_keys(self, given: Mapping[str, Any]) -> HeaderMap:
        """The map with cards of your own for some roles.

        Parameters
        ----------
        given : mapping of str to str or number
            Role to keyword; a number stands for itself.

        Raises
        ------
        ParameterError
            For a role that does not exist.
        """
        unknown = sorted(set(given) - set(ROLES))
        if unknown:
            raise ParameterError(
                f"no role of header cards is called {', '.join(unknown)}: take {', '.join(ROLES)}"
            )
        keys = {**self.keys, **{role: (str(card),) for role, card in given.items()}}
        # An own time replaces all of the survey's ways to find it.
        if "mid" in given or "start" in given:
            keys = {
                role: cards
                for role, cards in keys.items()
                if role not in {"mid", "start", "end"} - set(given)
            }
        return HeaderMap(**{**{item.name: getattr(self, item.name) for item in fields(self)}, "keys": keys})


def list_header_maps() -> list[str]:
    """Names of the surveys whose header maps come with the package."""
    folder = resources.files("skytrawl.catalogs.images.surveys")
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def load_header_map(name_or_path: str | Path | HeaderMap) -> HeaderMap:
    """Read and check a header map.

    Parameters
    ----------
    name_or_path : str, Path or HeaderMap
        A name of :func:`list_header_maps`, or the path of a TOML file of the same form.

    Raises
    ------
    SchemaError
        If there is no such survey, or the file has faults: all are listed.
    """
    if isinstance(name_or_path, HeaderMap):
        return name_or_path
    text = str(name_or_path)
    if text in list_header_maps():
        source = resources.files("skytrawl.catalogs.images.surveys").joinpath(f"{text}.toml")
        return _build(source.read_text(encoding="utf-8"), f"{text}.toml")
    path = Path(name_or_path)
    if not path.is_file():
        raise SchemaError(
            f"no header map {text!r}: take one of {', '.join(list_header_maps())}, or give the path of a "
            "TOML file of your own (copy one of these and change it)"
        )
    return _build(path.read_text(encoding="utf-8"), text)


def _build(text: str, where: str) -> HeaderMap:
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SchemaError(f"{where} is no TOML: {error}") from error
    faults = [f"key {key!r} is unknown" for key in sorted(set(found) - _TOP)]
    parts = {
        part: found.get(part, {}) for part in ("files", "keys", "time", "bands", "flux", "noise", "pointing")
    }
    allowed = {
        "files": {"passed_over", "extensions", "not_extensions"},
        "keys": set(ROLES),
        "time": {"scale"},
        "bands": {"pattern", "names"},
        "flux": {"zero_point", "zero_point_exptime", "stretch"},
        "noise": {"gain_per_second"},
        "pointing": {"radius"},
    }
    for part, keys in allowed.items():
        faults += [f"[{part}] has no key {key!r}" for key in sorted(set(parts[part]) - keys)]
    planes = [_plane(item, faults) for item in found.get("planes", [])]
    masks = [_bits(item, faults) for item in found.get("masks", [])]
    scale = parts["time"].get("scale", "utc")
    if scale not in SCALES:
        faults.append(f"[time] scale {scale!r}: take {', '.join(SCALES)}")
    if parts["flux"].get("stretch", "linear") not in ("linear", "asinh"):
        faults.append("[flux] stretch: take linear or asinh")
    faults += [f"{key} is missing" for key in ("name", "title") if not found.get(key)]
    for pattern in [*parts["files"].get("passed_over", []), parts["bands"].get("pattern", "")]:
        _check_pattern(pattern, faults)
    if faults:
        raise SchemaError(f"{where}: " + "; ".join(faults))
    return HeaderMap(
        name=found["name"],
        title=found["title"],
        citation=found.get("citation", ""),
        # Numbers stand for themselves.
        keys={
            role: tuple(map(str, cards if isinstance(cards, list) else [cards]))
            for role, cards in parts["keys"].items()
        },
        passed_over=tuple(parts["files"].get("passed_over", ())),
        extensions=parts["files"].get("extensions", ""),
        not_extensions=parts["files"].get("not_extensions", ""),
        time_scale=scale,
        band_pattern=parts["bands"].get("pattern", ""),
        bands=parts["bands"].get("names", {}),
        zero_point=parts["flux"].get("zero_point"),
        zero_point_exptime=parts["flux"].get("zero_point_exptime", 0.0),
        stretch=parts["flux"].get("stretch", "linear"),
        gain_per_second=parts["noise"].get("gain_per_second", False),
        pointing_radius=parts["pointing"].get("radius", 0.0),
        planes=tuple(planes),
        masks=tuple(masks),
    )


def _plane(item: Mapping[str, Any], faults: list[str]) -> Plane:
    known = {entry.name for entry in fields(Plane)}
    faults.extend(f"[[planes]] has no key {key!r}" for key in sorted(set(item) - known))
    if item.get("kind") not in PLANES:
        faults.append(f"[[planes]] kind {item.get('kind')!r}: take {', '.join(PLANES)}")
    _check_pattern(item.get("match", ""), faults)
    words = {key: value for key, value in item.items() if key in known}
    words["extension"] = tuple(words.get("extension", ()))
    return Plane(**{"kind": "", **words})


def _bits(item: Mapping[str, Any], faults: list[str]) -> Bits:
    words = dict(item)
    style, key, below = (words.pop(name, "") for name in ("style", "key", "below"))
    if style not in ("bits", "codes", "any"):
        faults.append(f"[[masks]] style {style!r}: take bits, codes or any")
    faults.extend(
        f"[[masks]] {name}: no such bit: {', '.join(flags.NAMES)}" for name in set(words) - set(flags.NAMES)
    )
    return Bits(style, {name: tuple(values) for name, values in words.items()}, key, below)


def _check_pattern(pattern: str, faults: list[str]) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        faults.append(f"{pattern!r} is no regular expression: {error}")
