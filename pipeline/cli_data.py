"""`skytrawl info` and `demo`: what a store holds, and the first try."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from textwrap import indent
from typing import Any

import click

from skytrawl.errors import NotAnArchiveError


@click.command()
@click.argument("store", type=click.Path())
@click.option(
    "--validate", "check", is_flag=True, help="Check every value of an archive and list every fault."
)
@click.option("--deep", is_flag=True, help="With --validate: also content hashes and repeated ids.")
@click.option("--version", type=int, help="Version of an archive.  [default: the latest]")
@click.option("--sizes", "by_column", is_flag=True, help="Bytes on disk of each column of an archive.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def info(store: str, check: bool, deep: bool, version: int | None, by_column: bool, as_json: bool) -> None:
    """Tell what an archive, a results store or a reference holds; with --validate, if an archive is sound."""
    from skytrawl.console import show_facts, show_json, step_bar

    if by_column and (check or deep):
        raise click.UsageError("--sizes and --validate answer different questions: ask one at a time")
    if by_column or check or deep:
        _refuse_others(store)
    if by_column:
        _show_sizes(store, version, as_json)
        return

    if check or deep:
        from skytrawl.catalogs.validate import validate

        with step_bar("checking partitions") as progress:
            report = validate(store, version=version, deep=deep, progress=progress)
        if as_json:
            show_json(report.to_dict())
        else:
            click.echo(str(report))
        if not report.ok:
            raise click.exceptions.Exit(1)
        return
    facts = _describe(Path(store))(store, version)
    if as_json:
        show_json(facts)
    else:
        if "keys" in facts:  # a reference: g for (g, g), g-r for (g, r)
            facts["keys"] = ["-".join(dict.fromkeys(key)) for key in facts["keys"]]
        show_facts(store, {name: _words(value) for name, value in facts.items()})


def _refuse_others(store: str) -> None:
    try:
        described = _describe(Path(store))
    except NotAnArchiveError:
        return  # an archive with faults, perhaps: the answer itself says more
    if described is not _archive_facts:
        raise NotAnArchiveError(f"{store} is no archive: --validate and --sizes look at archives only")


def _show_sizes(store: str, version: int | None, as_json: bool) -> None:
    import numpy as np

    from skytrawl.catalogs.sizes import sizes
    from skytrawl.console import human_bytes, show_columns, show_json

    found = sizes(store, version)
    if as_json:
        show_json(found.to_dict())
        return

    def number(value: float, decimals: int, unit: str = "") -> str:
        return "-" if np.isnan(value) else f"{value:.{decimals}f}{unit}"

    columns = found.columns
    show_columns(
        f"{store}: {human_bytes(found.total)} on disk; raw and stored in bytes a row",
        {
            "column": np.array([column.variable for column in columns]),
            "type": np.array([column.dtype for column in columns]),
            "codec": np.array([column.codec for column in columns]),
            "raw": np.array([int(column.raw) for column in columns]),
            "stored": np.array([number(column.stored, 3) for column in columns]),
            "ratio": np.array([number(column.ratio, 2) for column in columns]),
            "share": np.array([number(100 * column.share, 1, " %") for column in columns]),
        },
    )
    figures = found.to_dict()
    names = ("bytes per observation", "bytes per observation, its columns", "bytes per object, its columns")
    for name in (*names, "ratio"):
        if figures[name] is not None:
            click.echo(f"{name}: {figures[name]:.3f}")
    for column, done in found.rounding.items():
        click.echo(f"{column} rounded to {done['step']:g}, largest error {done['max_error']:.3g}")
    if done := found.recovered:
        before, after = done["bytes_before"], done["bytes_after"]
        click.echo(
            f"times brought back from the {done['from']} to a grid of {done['resolution']:g} d, largest "
            f"error {done['max_error']:.3g} d: {before:.3f} bytes a row before, {after:.3f} after"
        )


def _describe(path: Path) -> Callable[[str, int | None], dict[str, Any]]:
    """The function that describes the kind of store at a path, read from its own metadata."""
    kinds = {
        "archive": _archive_facts,
        "results": _results_facts,
        "counts": _reference_facts,
        "soraisam2020": _reference_facts,
    }
    try:
        attributes = json.loads((path / "zarr.json").read_text())["attributes"]
        return kinds[attributes["skytrawl"]["kind"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        found = "is not there" if not path.exists() else "is no skytrawl archive, results store or reference"
        raise NotAnArchiveError(
            f"{path} {found}: make one with `skytrawl ingest` or `skytrawl run`"
        ) from error


def _archive_facts(store: str, version: int | None) -> dict[str, Any]:
    from skytrawl.catalogs.archive import Archive
    from skytrawl.catalogs.versions import list_versions

    archive = Archive.open(store, version)
    return {
        "kind": "archive",
        "survey": archive.attrs["survey"].get("name", ""),
        "bands": list(archive.bands),
        "light curves": archive.attrs["light_curves"],
        "positions": archive.has_positions,
        "objects": archive.n_objects,
        "observations": archive.n_observations,
        "partitions": archive.n_partitions,
        "version": archive.version.number,
        "versions": list_versions(archive.storage),
        "variables": list(archive.variables),
        "fingerprint": archive.fingerprint,
    }


def _results_facts(store: str, version: int | None) -> dict[str, Any]:
    from skytrawl.catalogs.query import open_query
    from skytrawl.catalogs.results import ResultsStore

    facts: dict[str, Any] = {"kind": "results"}
    for job in ResultsStore(store).jobs:
        opened = open_query(store, job)
        facts[job] = {
            "objects": int(opened.partitions["n_objects"].sum()),
            "partitions": len(opened.partitions),
            "partitions missing": opened.missing,
            "columns": opened.units(),
            "ranked": opened.scores(),
            **opened.run.attrs,
        }
    return facts


def _reference_facts(store: str, version: int | None) -> dict[str, Any]:
    from skytrawl.catalogs.references import fingerprint, load

    reference = load(store)
    return {
        **reference.attrs["skytrawl"],
        "kind": f"reference ({reference.attrs['skytrawl']['kind']})",
        "fingerprint": fingerprint(reference),
    }


def _words(value: Any) -> str:
    """A value of any nesting as text; what belongs to a name stands indented below it."""
    if isinstance(value, dict):
        lines = []
        for name, item in value.items():
            if item in ("", None) or item == {} or item == []:
                continue
            nested = isinstance(item, dict) or (isinstance(item, list) and isinstance(item[0], dict))
            text = _words(item)
            lines.append(f"{name}:\n{indent(text, '  ')}" if nested else f"{name}: {text}")
        return "\n".join(lines)
    if isinstance(value, (list, tuple)):
        return ("\n" if value and isinstance(value[0], dict) else ", ").join(map(_words, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


@click.command()
@click.option(
    "--out",
    type=click.Path(),
    default="skytrawl-demo",
    show_default=True,
    help="New folder for archives, results and figures.",
)
@click.option("--workers", type=click.IntRange(1), help="Worker processes.  [default: one a core]")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="Rows of the table.")
def demo(out: str, workers: int | None, top: int) -> None:
    """Rank real light curves by how odd they are and subtract real images: from files to figures."""
    from skytrawl.demo import run_demo

    run_demo(Path(out), workers=workers, top=top)
