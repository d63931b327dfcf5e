"""`skytrawl versions`: what an archive went through; keep, remove and restore its versions."""

from __future__ import annotations

import re
from typing import Any

import click
import numpy as np

from skytrawl.errors import ParameterError

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


def seconds_of(text: str) -> float:
    """Seconds of a time such as 90min, 12h, 7d or 2w; ParameterError otherwise."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|d|w)", text.strip())
    if not found:
        raise ParameterError(f"{text!r} is no time: write a number and s, min, h, d or w, such as 7d")
    return float(found[1]) * _UNITS[found[2]]


class _Group(click.Group):
    """Takes --json behind the archive, too, where no command follows."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args[1:] == ["--json"]:
            args = args[::-1]
        return super().parse_args(ctx, args)


@click.group(cls=_Group, invoke_without_command=True)
@click.argument("archive", type=click.Path())
@_JSON
@click.pass_context
def versions(context: click.Context, archive: str, as_json: bool) -> None:
    """List the versions of an archive, or act on them: skytrawl versions ARCHIVE [COMMAND].

    Each ingest and append makes a version; readers keep to the one that they opened.
    """
    from skytrawl.catalogs.storage import Storage

    context.obj = Storage(archive)
    if context.invoked_subcommand is None:
        _list(context.obj, as_json)


def _list(storage: Any, as_json: bool) -> None:
    from skytrawl.catalogs.retention import history
    from skytrawl.console import human_bytes, show_columns, show_json

    facts = history(storage)
    if as_json:
        show_json(facts)
        return

    def right(texts: list[str]) -> np.ndarray:
        width = max(map(len, texts), default=0)
        return np.array([text.rjust(width) for text in texts], object)

    columns = {
        "version": np.array([fact["number"] for fact in facts]),
        "created": np.array([fact["created"] for fact in facts], object),
        "note": np.array([fact["note"] for fact in facts], object),
        "pins": np.array([", ".join(fact["pins"]) for fact in facts], object),
        **{
            name: right([f"{fact[name]:,}" for fact in facts])
            for name in ("partitions", "objects", "observations")
        },
        "new": right(["?" if fact["bytes"] is None else human_bytes(fact["bytes"]) for fact in facts]),
    }
    show_columns(f"versions of {storage.root}", columns)


@versions.command()
@click.argument("number", type=int)
@click.argument("name")
@click.option("--note", default="", help="What the version is kept for.")
@_JSON
@click.pass_obj
def pin(storage: Any, number: int, name: str, note: str, as_json: bool) -> None:
    """Keep version NUMBER for good, under NAME."""
    from skytrawl.catalogs.retention import pin as pin_version

    made = pin_version(storage, name, number, note)
    _say(made.__dict__, f"{made.name} pins version {made.version}", as_json)


@versions.command()
@click.argument("name")
@_JSON
@click.pass_obj
def unpin(storage: Any, name: str, as_json: bool) -> None:
    """Remove the pin NAME; its version may then expire."""
    from skytrawl.catalogs.retention import unpin as unpin_version

    gone = unpin_version(storage, name)
    _say(gone.__dict__, f"version {gone.version} is no longer pinned by {gone.name}", as_json)


@versions.command()
@click.argument("number", type=int)
@_JSON
@click.pass_obj
def back(storage: Any, number: int, as_json: bool) -> None:
    """Make the content of version NUMBER the latest version; nothing is removed."""
    from skytrawl.catalogs.retention import back_to
    from skytrawl.catalogs.versions import list_versions

    latest = list_versions(storage)[-1:]
    made = back_to(storage, number)
    text = (
        f"version {made.number} now has the content of version {number}"
        if made.number not in latest
        else f"version {made.number}, the latest, has this content already"
    )
    _say({"number": made.number, **made.header}, text, as_json)


@versions.command()
@click.option(
    "--older-than",
    default="7d",
    show_default=True,
    help="Retention: what is younger stays, such as 12h, 7d or 2w.",
)
@click.option(
    "--expire", is_flag=True, help="First take versions off the list that are older and not pinned."
)
@click.option(
    "--keep-last",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="With --expire: latest versions that stay in any case.",
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@_JSON
@click.pass_obj
def sweep(storage: Any, older_than: str, expire: bool, keep_last: int, dry_run: bool, as_json: bool) -> None:
    """Remove what interrupted writers and expired versions left.

    The files of a version go once its expiry is older than the retention, so that who reads it can finish.
    """
    from skytrawl.catalogs import retention
    from skytrawl.catalogs.sweep import sweep as sweep_archive
    from skytrawl.console import human_bytes

    seconds = seconds_of(older_than)
    gone: list[int] = []
    if expire:
        gone = retention.expire(storage, keep_last=keep_last, older_than=seconds, dry_run=dry_run)
    done = sweep_archive(storage, seconds, dry_run=dry_run)
    lines = [
        f"{'would remove' if dry_run else 'removed'} {human_bytes(done.bytes)}: {done.shards:,} shards, "
        f"{done.unfinished:,} unfinished files, {done.staging} staging folders, {done.indexes} indexes, "
        f"{done.versions} expired versions"
    ]
    if gone:
        numbers = ", ".join(map(str, gone))
        when = f"; their files go with the first sweep after {older_than}" if seconds else ""
        lines.append(f"{'would expire' if dry_run else 'expired'}: versions {numbers}{when}")
    if done.at_work:
        found = ", ".join(done.at_work)
        lines.append(f"at work or to be continued, so nothing that is reserved was touched: {found}")
    _say({"expired": gone, **done.to_dict()}, "\n".join(lines), as_json)


def _say(value: dict[str, Any], text: str, as_json: bool) -> None:
    from skytrawl.console import show_json

    if as_json:
        show_json(value)
    else:
        click.echo(text)
