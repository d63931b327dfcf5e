"""What a sweep removes and what it must leave; pins, expiry and the way back."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from skytrawl.catalogs import id_index, retention, versions
from skytrawl.catalogs.archive import Archive, ArchiveWriter
from skytrawl.catalogs.holds import Hold
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.sweep import sweep
from skytrawl.catalogs.validate import validate
from skytrawl.errors import ArchiveError, CorruptShardError, NotAnArchiveError, ParameterError

NOW = -1.0  # a retention after which everything is old


def shards(path: Path) -> set[str]:
    return {key for key in Storage(path).list() if "/c/" in key}


def grow(path: Path, make_block, times: int = 1) -> None:
    """Versions that each replace the first partition."""
    for _ in range(times):
        writer = ArchiveWriter(path)
        assert writer.base is not None
        writer.drop(0)
        writer.write(make_block([5, 9], seed=writer.base.number, first_id=0), flush=False)
        writer.publish(note="append")


def age(path: Path, seconds: float) -> None:
    """Make a folder and all in it older."""
    for file in [path, *path.rglob("*")]:
        state = file.stat()
        os.utime(file, (state.st_atime, state.st_mtime - seconds))


def test_expired_versions_are_readable_for_the_retention_time(archive_path: Path, make_block) -> None:
    grow(archive_path, make_block, 3)
    storage = Storage(archive_path)
    retention.pin(storage, "dr1", 2)
    reader = Archive.open(archive_path, 1)
    before = shards(archive_path)
    assert retention.expire(storage, older_than=3600) == []
    assert retention.expire(storage, older_than=NOW, keep_last=2, dry_run=True) == [1]
    assert retention.expire(storage, older_than=NOW, keep_last=2) == [1]
    assert versions.list_versions(storage) == [2, 3, 4]
    # A reader that has it, and one that is told its number, go on; the list has it no more.
    assert sweep(storage, older_than=3600).total == 0
    assert reader.read(0, ["time"]).n_observations == 144
    assert Archive.open(archive_path, 1).read(0, ["time"]).n_observations == 144
    assert retention.expire(storage, older_than=NOW) == [3]
    counted = sweep(storage, older_than=NOW, dry_run=True)
    assert shards(archive_path) == before
    done = sweep(storage, older_than=NOW)
    assert (done.shards, done.bytes, done.versions) == (counted.shards, counted.bytes, 2)
    assert done.shards == len(before - shards(archive_path)) > 0
    assert versions.list_expired(storage) == []
    for number in (2, 4):
        assert validate(archive_path, version=number, deep=True).ok
    with pytest.raises(CorruptShardError):
        reader.read(0, ["time"])
    with pytest.raises(ArchiveError, match="no version 1; published: 2, 4"):
        Archive.open(archive_path, 1)
    assert sweep(storage, older_than=NOW).total == 0


def test_a_version_that_was_the_latest_until_now_stays(archive_path: Path, make_block) -> None:
    """However old it is: who opened it this morning may still be reading."""
    storage = Storage(archive_path)
    first = versions.read_version(storage)
    old = {**first.header, "created": "2020-01-01T00:00:00Z"}
    storage.replace(versions.version_key(1), versions.to_bytes(versions.Version(1, first.partitions, old)))
    grow(archive_path, make_block)
    assert retention.expire(storage, older_than=3600) == []


def test_an_interrupted_expiry_is_finished_by_the_next(archive_path: Path, make_block, monkeypatch) -> None:
    grow(archive_path, make_block)
    storage = Storage(archive_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            retention.expire(storage, older_than=NOW)
    assert versions.list_expired(storage) == versions.list_versions(storage)[:1] == [1]
    before = shards(archive_path)
    sweep(storage, older_than=NOW)
    assert shards(archive_path) == before
    assert validate(archive_path, version=1, deep=True).ok


def test_writers_at_work_lose_nothing(archive_path: Path, make_block) -> None:
    storage = Storage(archive_path)
    grow(archive_path, make_block)
    retention.expire(storage, older_than=NOW)
    writer = ArchiveWriter(archive_path)
    written = writer.write(make_block([7], first_id=900))
    done = sweep(storage, older_than=NOW)
    # What only an expired version listed goes; what may be the writer's stays, whoever reserved it.
    assert done.shards > 0
    assert [name.split("/")[0] for name in done.at_work] == ["writers"]
    writer.publish()
    assert not storage.names("writers")
    assert validate(archive_path, deep=True).ok
    assert written in versions.read_version(storage).partitions
    with ArchiveWriter(archive_path) as other:
        other.write(make_block([8], first_id=950))
        other._rows.clear()  # given up
    assert sweep(storage, older_than=3600).shards == 0  # reserved just now
    assert sweep(storage, older_than=NOW).shards == 10


def test_locks_of_dead_writers_are_removed(archive_path: Path) -> None:
    (archive_path / "writers" / "0123.lock").write_text("process 1")
    sweep(Storage(archive_path))
    assert not list((archive_path / "writers").iterdir())


def test_staging_folders_wait_for_the_retention_time(archive_path: Path, make_block) -> None:
    storage = Storage(archive_path)
    staging = archive_path / "staging"
    for name in ("dead", "held", "asked", "young"):
        (staging / name / "spill").mkdir(parents=True)
        (staging / name / "spill" / "0").write_bytes(b"x" * 100)
        if name != "young":
            age(staging / name, 7200)
    writer = ArchiveWriter(archive_path)
    writer.write(make_block([7], first_id=900))
    writer.close()  # as if killed: its shards belong to the staging folder that waits
    hold = Hold(staging / "held" / "driver.lock")
    age(staging / "held", 7200)
    done = sweep(storage, older_than=3600, held=lambda folder: folder.name == "asked")
    assert (done.staging, done.bytes) == (1, 100)
    assert done.at_work == ["staging/asked", "staging/held", "staging/young"]
    assert sorted(os.listdir(staging)) == ["asked", "held", "young"]
    hold.release()
    (staging / "removed-1" / "left").mkdir(parents=True)  # a sweep was killed here
    age(staging, -7200)
    done = sweep(storage, older_than=3600)
    assert (done.staging, done.shards, len(done.at_work)) == (1, 0, 3)
    done = sweep(storage, older_than=NOW - 7200)
    assert (done.staging, done.shards, done.at_work) == (3, 10, [])


def test_generations_that_no_version_names_go(archive_path: Path) -> None:
    storage = Storage(archive_path)
    for name in ("a", "b", "c"):
        id_index.build(storage, name, [(np.arange(32), np.arange(32))])
    writer = ArchiveWriter(archive_path)
    writer.publish(index=["a"])
    writer.publish(index=["b"])
    assert sweep(storage, older_than=3600).indexes == 0
    assert sweep(storage, older_than=NOW).indexes == 1
    assert storage.names("index") == ["a", "b"]
    retention.expire(storage, older_than=NOW)
    assert sweep(storage, older_than=NOW).indexes == 1
    assert storage.names("index") == ["b"]


def test_back_to_an_older_version(archive_path: Path, make_block) -> None:
    grow(archive_path, make_block, 2)
    storage = Storage(archive_path)
    old = Archive.open(archive_path, 1)
    made = retention.back_to(storage, 1)
    assert (made.number, made.note, made.header["parent"]) == (4, "back to 1", 3)
    assert Archive.open(archive_path).fingerprint == old.fingerprint
    assert retention.back_to(storage, 1).number == 4
    assert versions.list_versions(storage) == [1, 2, 3, 4]
    with pytest.raises(ArchiveError, match="no version 9"):
        retention.back_to(storage, 9)
    retention.expire(storage, older_than=NOW)
    assert retention.back_to(storage, 3).number == 5
    lost = next(retention.shard_keys(old.attrs, versions.read_version(storage, 2)))
    storage.delete(lost)
    with pytest.raises(ArchiveError, match="1 of its files were swept: there is no way back"):
        retention.back_to(storage, 2)
    with ArchiveWriter(archive_path) as writer:
        writer.drop(1)
    assert versions.read_version(storage).number == 6
    ArchiveWriter(archive_path).publish(index=["swept"])
    ArchiveWriter(archive_path).publish(index=[])
    with pytest.raises(ArchiveError, match="1 of its files were swept"):
        retention.back_to(storage, 7)  # without its index no object would be found


def test_pins(archive_path: Path) -> None:
    storage = Storage(archive_path)
    assert retention.pin(storage, "dr1", 1, "first release") == retention.pin(storage, "dr1", 1)
    (found,) = retention.read_pins(storage)
    assert (found.name, found.version, found.note) == ("dr1", 1, "first release")
    assert found.created
    with pytest.raises(ParameterError, match="cannot name a pin"):
        retention.pin(storage, "../x", 1)
    with pytest.raises(ArchiveError, match="no version 2; published: 1"):
        retention.pin(storage, "dr2", 2)
    ArchiveWriter(archive_path).publish(index=["a"])
    with pytest.raises(ArchiveError, match="dr1 pins version 1: unpin it first"):
        retention.pin(storage, "dr1", 2)
    retention.unpin(storage, "dr1")
    with pytest.raises(ArchiveError, match="no pin 'dr1'; pins: none"):
        retention.unpin(storage, "dr1")
    storage.write_new("pins/bad.json", b"{")
    with pytest.raises(ArchiveError, match=r"bad.json is damaged"):
        retention.expire(storage, older_than=NOW)


def test_one_at_a_time_and_only_archives(archive_path: Path, tmp_path: Path) -> None:
    storage = Storage(archive_path)
    with (
        retention.maintenance(storage),
        pytest.raises(ArchiveError, match="another sweep, expiry, pin or way back is under way"),
    ):
        sweep(storage)
    sweep(storage)
    assert not (archive_path / "maintenance.lock").exists()
    with pytest.raises(NotAnArchiveError):
        sweep(Storage(tmp_path))
    with pytest.raises(ParameterError, match="the latest version is never removed"):
        retention.expire(storage, keep_last=0)


def test_a_damaged_version_stops_a_sweep(archive_path: Path, make_block) -> None:
    grow(archive_path, make_block)
    (archive_path / "versions" / "00000001.npz").write_bytes(b"torn")
    before = shards(archive_path)
    with pytest.raises(ArchiveError, match="is damaged"):
        sweep(Storage(archive_path), older_than=NOW)
    assert shards(archive_path) == before


def command(*words: object, code: int = 0) -> str:
    from skytrawl.cli import main

    result = CliRunner().invoke(main, ["versions", *map(str, words)])
    assert result.exit_code == code, result.output
    return result.output


def test_command_line(archive_path: Path, make_block) -> None:
    grow(archive_path, make_block)
    assert "dr1 pins version 1" in command(archive_path, "pin", 1, "dr1")
    shown = command(archive_path)
    for word in ("append", "dr1", "545", "415"):
        assert word in shown
    (first, second) = json.loads(command(archive_path, "--json"))
    assert (first["pins"], first["objects"], second["note"], second["parent"]) == (["dr1"], 32, "append", 1)
    assert second["bytes"] < first["bytes"]
    assert "version 3 now has the content of version 1" in command(archive_path, "back", 1)
    assert "version 3, the latest, has this content already" in command(archive_path, "back", 1)
    time.sleep(1.1)
    planned = command(archive_path, "sweep", "--expire", "--older-than", "0s", "--dry-run")
    assert "would expire: versions 2" in planned
    done = json.loads(command(archive_path, "sweep", "--expire", "--older-than", "0s", "--json"))
    assert done["expired"] == [2]
    assert "version 1 is no longer pinned by dr1" in command(archive_path, "unpin", "dr1")
    assert "does not exist" in command("nowhere", "back", 1, code=1)
    assert "is no time" in command(archive_path, "sweep", "--older-than", "7 days", code=1)


def test_times_in_words() -> None:
    from skytrawl.cli_versions import seconds_of

    assert [seconds_of(text) for text in ("90min", "12h", "7d", "2 w", "1.5s")] == [
        5400, 43200, 604800, 1209600, 1.5
    ]  # fmt: skip
