"""The validator lists every fault at once, each with its place."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from skytrawl.catalogs import versions
from skytrawl.catalogs.archive import Archive, ArchiveWriter
from skytrawl.catalogs.sky import order_key
from skytrawl.catalogs.validate import Report, validate
from skytrawl.catalogs.versions import Version
from skytrawl.errors import NotAnArchiveError


def paths(report: Report) -> list[str]:
    return [str(issue.path) for issue in report.issues]


def rewrite(archive: Archive, name: str, partition: int, change) -> None:
    """Change values behind the back of the version."""
    array, record = archive.array(name), archive.version.partitions[partition]
    axis = "object" if name.startswith("objects/") else "observation"
    slot, rows = int(record[f"{axis}_slot"]), int(record[f"n_{axis}s"])
    values = array.read(slot, 0, rows)
    change(values)
    array.write(slot, values)


def forge(path: Path, change) -> None:
    """Change the partition table of version 1."""
    writer = ArchiveWriter(path)
    assert writer.base is not None
    table = writer.base.partitions.copy()
    change(table)
    writer.storage.replace("versions/00000001.npz", versions.to_bytes(Version(1, table, writer.base.header)))


def test_a_sound_archive(archive_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = validate(archive_path, deep=True, progress=lambda done, all_: calls.append((done, all_)))
    assert report.ok, str(report)
    assert (report.partitions, report.objects, report.observations) == (4, 32, 545)
    assert calls[-1] == (4, 4)
    assert "no fault" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True
    assert validate(archive_path, partitions=[1]).objects == 2


def test_every_damaged_shard_is_listed(archive_path: Path) -> None:
    archive = Archive.open(archive_path)
    first = int(archive.version.partitions[2]["observation_slot"])
    value, band = archive.array("value"), archive.array("band")
    value.storage.delete(value.key(first + 1))
    value.storage.path(value.key(first + 4)).write_bytes(b"")
    file = band.storage.path(band.key(0))
    data = bytearray(file.read_bytes())
    data[3] ^= 255
    file.write_bytes(data)
    report = validate(archive_path)
    assert sorted(paths(report)) == [
        "lightcurves/band, partition 0, slot 0",
        f"lightcurves/value, partition 2, slot {first + 1}",
        f"lightcurves/value, partition 2, slot {first + 4}",
    ]
    assert "missing" in str(report)
    assert "0 bytes" in str(report)
    assert "checksum" in str(report)
    assert str(file) in str(report)
    assert len(str(report).splitlines()) == 4


@pytest.mark.parametrize(
    ("name", "change", "path", "message"),
    [
        (
            "lightcurves/time",
            lambda v: v.__setitem__(7, np.nan),
            "lightcurves/time, partition 0",
            "not finite",
        ),
        ("lightcurves/time", lambda v: v.__setitem__(5, 0.0), "lightcurves/time, partition 0", "not ordered"),
        ("lightcurves/band", lambda v: v.__setitem__(5, 9), "lightcurves/band, partition 0", "code 9"),
        (
            "objects/healpix",
            lambda v: v.__setitem__(0, v[1] + 1),
            "objects/healpix, partition 0",
            "ascending",
        ),
        (
            "objects/healpix",
            lambda v: v.__setitem__(3, v[3] + 10**9),
            "objects/healpix, partition 0",
            "position",
        ),
        ("objects/ra", lambda v: v.__setitem__(4, v[4] + 0.001), "objects/healpix, partition 0", "object 4"),
        ("objects/dec", lambda v: v.__setitem__(4, 91), "objects/ra, partition 0", "dec 91"),
        (
            "objects/first_observation",
            lambda v: v.__setitem__(2, 900),
            "objects/first_observation",
            "do not span",
        ),
        (
            "objects/n_observations",
            lambda v: v.__setitem__(2, 5),
            "objects/n_observations",
            "count of object 2",
        ),
    ],
)
def test_faulty_values(archive_path: Path, name, change, path, message) -> None:
    rewrite(Archive.open(archive_path), name, 0, change)
    report = validate(archive_path)
    assert any(path in issue.path and message in str(issue) for issue in report.issues), str(report)


def test_changed_values_are_found_by_the_deep_check_alone(archive_path: Path) -> None:
    rewrite(Archive.open(archive_path), "lightcurves/value", 2, lambda values: values.__setitem__(9, 1.0))
    assert validate(archive_path).ok
    report = validate(archive_path, deep=True)
    assert paths(report) == ["partition 2"]
    assert "published" in str(report)


def test_identifiers_twice(make_writer, make_block, tmp_path: Path) -> None:
    with make_writer(tmp_path / "a") as writer:
        writer.write(make_block([1, 2]))
        writer.write(make_block([1, 2]))
    report = validate(tmp_path / "a", deep=True)
    assert paths(report) == ["objects/object_id"]
    assert "2 identifiers" in str(report)


def test_faults_of_the_declaration(archive_path: Path) -> None:
    shutil.rmtree(archive_path / "lightcurves" / "error")
    file = archive_path / "lightcurves" / "value" / "zarr.json"
    meta = json.loads(file.read_text())
    meta["attributes"]["units"] = "Jy"
    meta["dimension_names"] = ["row"]
    file.write_text(json.dumps(meta))
    file = archive_path / "objects" / "ra" / "zarr.json"
    file.write_text(file.read_text().replace('"float64"', '"int64"'))
    root = json.loads((archive_path / "zarr.json").read_text())
    root["attributes"]["skytrawl"]["light_curves"]["photometry"] = "guessed"
    (archive_path / "zarr.json").write_text(json.dumps(root))
    found = paths(validate(archive_path))
    for path in (
        "lightcurves/error",
        "lightcurves/value/units",
        "lightcurves/value/dims",
        "objects/ra/dtype",
        "objects/ra",
        "light_curves/photometry",
    ):
        assert path in found


def test_faults_of_the_partition_table(archive_path: Path) -> None:
    def change(table: np.ndarray) -> None:
        table["object_slots"][0] = 1
        table["object_slot"][1] = table["object_slot"][2]
        table["healpix_max"][2] = 0

    forge(archive_path, change)
    text = str(validate(archive_path))
    assert "partition 0: object slots do not hold its rows (found 1 for 10" in text
    assert "shares object slots with partition" in text
    assert "partition 2: its HEALPix range is reversed" in text
    assert "range differs from the version's" in text


def test_objects_without_position_are_ordered_by_hash(make_writer, make_block, tmp_path: Path) -> None:
    block = make_block([2, 2, 2])
    columns = block.objects
    columns["ra"][1:] = columns["dec"][1:] = np.nan
    keys = order_key(columns["ra"], columns["dec"], columns["object_id"])
    order = np.argsort(keys)
    for name in ("object_id", "ra", "dec"):
        columns[name] = columns[name][order]
    columns["healpix"] = keys[order]
    with make_writer(tmp_path / "mixed") as writer:
        writer.write(block)
    assert validate(tmp_path / "mixed").ok
    columns["healpix"] = columns["healpix"] + np.array([0, 1, 1], np.uint64)
    with make_writer(tmp_path / "b", has_positions=False) as writer:
        writer.write(block)
    text = str(validate(tmp_path / "b"))
    assert "2 keys are not the hash of the identifier, the first is object 1" in text
    assert "positions in an archive that declares none" in text


def test_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(NotAnArchiveError):
        validate(tmp_path)
