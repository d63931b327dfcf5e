"""Bad input: a message with place and remedy, or dropped and counted; nothing is lost silently."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.catalogs.archive import Archive
from skytrawl.errors import ArchiveError, IngestError, ParameterError, PreflightError
from skytrawl.intake.driver import ingest

HEADER = "object,mjd,mag,magerr,band"
GOOD = ["a,58001.5,18.0,0.1,g", "a,58002.5,18.5,0.1,r", "b,58003.5,19.0,0.2,g"]
Take = Callable[..., Any]
Write = Callable[..., Path]

DROPPED = {
    "time_nan": ("a,nan,18,0.1,g", "time is missing or not finite"),
    "time_empty": ("a,,18,0.1,g", "time is missing or not finite"),
    "time_infinite": ("a,inf,18,0.1,g", "time is missing or not finite"),
    "time_zero": ("a,0,18,0.1,g", "time is outside the years 1890 to 2150"),
    "time_text": ("a,yesterday,18,0.1,g", "mjd is no number"),
    "value_nan": ("a,58001,NaN,0.1,g", "value is missing or not finite"),
    "value_infinite": ("a,58001,-inf,0.1,g", "value is missing or not finite"),
    "value_mark": ("a,58001,99.99,0.1,g", "value is outside -30 to 40 mag"),
    "value_text": ("a,58001,bright,0.1,g", "mag is no number"),
    "error_negative": ("a,58001,18,-0.1,g", "error is negative"),
    "error_zero": ("a,58001,18,0,g", "error is zero"),
    "error_nan": ("a,58001,18,,g", "error is missing"),
    "error_infinite": ("a,58001,18,inf,g", "error is infinite"),
    "band_unknown": ("a,58001,18,0.1,V", "unknown band 'V'"),
    "band_empty": ("a,58001,18,0.1,", "unknown band ''"),
    "object_empty": (",58001,18,0.1,g", "the object identifier is empty"),
    "object_nan": ("NaN,58001,18,0.1,g", "the object identifier is empty"),
    "duplicate": (GOOD[1], "repeats another row in every column"),
}


@pytest.mark.parametrize("case", DROPPED)
def test_bad_rows_are_dropped_and_counted(write: Write, take: Take, use_pyarrow: bool, case: str) -> None:
    row, reason = DROPPED[case]
    path = write(*GOOD, row)
    report, found = take(path, use_pyarrow=use_pyarrow)
    assert report.dropped == {reason: 1}
    assert report.examples[reason][0].startswith(f"{path}, row 4")
    assert (report.rows_read, report.rows_kept) == (4, 3)
    assert sorted(found["time"]) == [58001.5, 58002.5, 58003.5]
    assert reason in str(report)


@pytest.mark.parametrize("case", DROPPED)
def test_bad_rows_stop_a_strict_ingest(write: Write, tmp_path: Path, case: str) -> None:
    row, reason = DROPPED[case]
    path = write(*GOOD, row)
    with pytest.raises(IngestError) as caught:
        ingest(path, tmp_path / "strict.zarr", survey="ztf", on_bad="raise")
    assert f"{path}, row 4" in str(caught.value)
    assert reason in str(caught.value)
    assert "on_bad='drop'" in str(caught.value)
    assert not (tmp_path / "strict.zarr").exists()


def test_missing_errors_can_stay(write: Write, take: Take) -> None:
    path = write(*GOOD, "a,58004,18,,g", "a,58005,18,0,g", "a,58006,18,-1,g")
    report, found = take(path, missing_errors="keep")
    assert report.dropped == {"error is negative": 1}
    assert np.isnan(found["error"]).sum() == 1
    assert (found["error"] == 0).sum() == 1


def test_unsorted_rows_are_sorted(write: Write, take: Take) -> None:
    generator = np.random.default_rng(1)
    rows = [
        f"{'xyz'[i % 3]},{58000 + i / 7},{18 + i % 5 / 10},0.1,{'gri'[i % 4 % 3]}"
        for i in generator.permutation(200)
    ]
    _, found = take(write(*rows))
    codes = np.array(["gri".index(band) for band in found["band"]])
    start = 0
    for count in found["counts"]:
        piece = slice(start, start + count)
        order = np.lexsort((found["time"][piece], codes[piece]))
        assert (order == np.arange(count)).all()
        start += count


def test_equal_stamps_with_other_values_stay(write: Write, take: Take) -> None:
    path = write(*GOOD, "a,58001.5,18.1,0.1,g", "a,58001.5,18.0,0.1,g")
    report, found = take(path)
    assert report.dropped == {"repeats another row in every column": 1}
    assert report.equal_stamps == 1
    assert sorted(found["value"]) == [18.0, 18.1, 18.5, 19.0]
    assert any("share object, band and time" in warning for warning in report.warnings)
    kept, _ = take(path, duplicates="keep")
    assert (kept.rows_kept, kept.equal_stamps) == (5, 2)


def test_rows_of_different_measurements_are_no_duplicates(write: Write, take: Take) -> None:
    rows = ["a,58001.5,18.0,0.1,g,1", "a,58001.5,18.0,0.1,g,2", "a,58001.5,18.0,0.1,g,2"]
    report, _ = take(write(*rows, header=HEADER + ",candid"))
    assert (report.rows_kept, report.dropped) == (2, {"repeats another row in every column": 1})


def test_missing_columns_are_all_named(write: Write, take: Take) -> None:
    path = write("1,2", header="mjd,brightness")
    with pytest.raises(IngestError) as caught:
        take(path)
    for part in (
        str(path),
        "object=<column>",
        "value (magnitude)",
        "error (magnitude)",
        "band='r'",
        "brightness",
    ):
        assert part in str(caught.value), part


def test_named_columns_that_are_absent(write: Write, take: Take) -> None:
    with pytest.raises(IngestError, match="time='when' names no column"):
        take(write(*GOOD), columns={"time": "when"})
    with pytest.raises(IngestError, match="no role 'colour'"):
        take(write(*GOOD), columns={"colour": "mag"})
    with pytest.raises(IngestError, match="ra without its partner"):
        take(write(*GOOD), columns={"ra": "mag"})


def test_single_curve_file(write: Write, take: Take) -> None:
    path = write("58001,18,0.1", "58002,18,0.1", header="mjd,mag,magerr", name="star7.csv")
    report, found = take(path, columns={"object": "{stem}", "band": "R", "ra": 12.5, "dec": -3})
    assert found["object_id"].tolist() == [b"star7"]
    assert set(found["band"]) == {"R"}
    assert (found["ra"][0], found["dec"][0]) == (12.5, -3.0)
    assert report.rows_kept == 2


@pytest.mark.parametrize(
    ("time", "options", "remedy"),
    [
        ("2458001.5", {}, "time_format='jd'"),
        ("58001.5", {"time_format": "jd"}, "time_format='mjd'"),
        ("5275.5", {}, "'jd-2450000'"),
        ("58001500000", {}, "'days'"),
    ],
)
def test_wrong_time_format(write: Write, take: Take, time: str, options: dict[str, str], remedy: str) -> None:
    path = write(f"a,{time},18,0.1,g", f"b,{time},18,0.1,g")
    with pytest.raises(IngestError) as caught:
        take(path, **options)
    assert str(path) in str(caught.value)
    assert remedy in str(caught.value)


def test_julian_dates_keep_their_digits(write: Write, take: Take, use_pyarrow: bool) -> None:
    rows = ["a,2459000.123456789012,18,0.1,g", "a,2459000.5,18,0.1,g", "a,2.4590015e6,18,0.1,g"]
    _, found = take(write(*rows, header="object,jd,mag,magerr,band"), use_pyarrow=use_pyarrow)
    assert found["time"].tolist() == [58999.623456789012, 59000.0, 59001.0]
    short = write("a,5275.53135,18,0.1,g", name="short.csv")
    _, found = take(short, time_format="jd-2450000", use_pyarrow=use_pyarrow)
    assert found["time"][0] == 55275.03135
    exact = np.array([2459000.1234567])
    table = {"object": ["a"], "time": exact, "mag": [18.0], "magerr": [0.1], "band": ["g"]}
    _, found = take(table, time_format="jd")
    assert found["time"][0] + 2400000.5 == exact[0]


def test_times_of_an_own_zero_point(write: Write, take: Take, tmp_path: Path) -> None:
    path = write("a,-20,18,0.1,g", "a,100,18,0.1,g")
    take(path, time_format="days")
    archive = Archive.open(next(iter(tmp_path.glob("archive*.zarr"))))
    assert archive.attrs["light_curves"]["time"]["origin"] == "own"


def test_fluxes_are_no_magnitudes(write: Write, take: Take) -> None:
    path = write("a,58001,1500.5,3,g", "a,58002,-20.1,3,g", "a,58003,900,3,g")
    with pytest.raises(IngestError, match=r"no magnitudes.*quantity='flux'"):
        take(path)
    flux = write("a,58001,1500.5,3,g", header="object,mjd,flux,fluxerr,band", name="flux.csv")
    with pytest.raises(IngestError, match="quantity='flux'"):
        take(flux)
    with pytest.raises(ParameterError, match="units="):
        take(flux, quantity="flux")
    report, found = take(flux, quantity="flux", units="uJy", zero_point=23.9, photometry="total")
    assert found["value"][0] == 1500.5
    assert report.rows_kept == 1
    magnitudes = write(*GOOD, name="lsst.csv")
    with pytest.raises(IngestError, match="quantity='magnitude'"):
        take(magnitudes, survey="lsst")


def test_magnitudes_given_as_fluxes_are_questioned(write: Write, take: Take) -> None:
    path = write(*GOOD, header="object,mjd,flux,fluxerr,band")
    report, _ = take(path, survey="lsst")
    assert any("like magnitudes" in warning for warning in report.warnings)


def test_bands_of_another_survey(write: Write, take: Take) -> None:
    path = write("a,58001,18,0.1,V", "a,58002,18,0.1,I", "a,58003,18,0.1,g")
    with pytest.raises(IngestError, match=r"most rows have bands that ztf does not know: 'I', 'V'.*survey="):
        take(path)
    with pytest.raises(ParameterError, match="no band 'V'"):
        take(path, bands=["g", "V"])


def test_selected_bands_in_their_order(write: Write, take: Take) -> None:
    report, _found = take(write(*GOOD, "a,58009,18,0.1,i", "a,58010,18,0.1,zr"), bands=["R", "g"])
    assert report.bands == ("R", "g")
    assert report.dropped == {"band 'i' is not among those asked for": 1}
    assert report.rows_by_band == {"R": 2, "g": 2}


def test_two_spellings_of_a_filter(write: Write, take: Take) -> None:
    report, _ = take(write(*GOOD, "a,58009,18,0.1,R"))
    assert report.bands == ("g", "r", "i")
    assert any("R and r are one filter" in warning for warning in report.warnings)


def test_codes_of_filters_take_the_spelling_that_is_there(write: Write, take: Take) -> None:
    codes = write("a,58001,18,0.1,1", "a,58002,18,0.1,2", name="codes.csv")
    assert take(codes)[0].bands == ("g", "r", "i")
    report, found = take([codes, write("a,58003,18,0.1,R")])
    assert report.bands == ("g", "R", "i")
    assert found["band"].tolist() == ["g", "R", "R"]


def test_empty_files(write: Write, take: Take, tmp_path: Path, use_pyarrow: bool) -> None:
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(IngestError, match=r"empty\.csv is empty"):
        take(tmp_path / "empty.csv", use_pyarrow=use_pyarrow)
    bare = write(name="bare.csv")
    with pytest.raises(IngestError, match="no rows in"):
        take(bare, use_pyarrow=use_pyarrow)
    report, _ = take([bare, write(*GOOD)], use_pyarrow=use_pyarrow)
    assert any("bare.csv has a header line but no rows" in warning for warning in report.warnings)
    hopeless = write("a,nan,18,0.1,g", "a,58001,nan,0.1,g", name="hopeless.csv")
    with pytest.raises(IngestError, match=r"none of 2 rows can be used:\n  1 rows: time is missing"):
        take(hopeless, use_pyarrow=use_pyarrow)


def test_missing_sources(tmp_path: Path, take: Take) -> None:
    with pytest.raises(IngestError, match="does not exist"):
        take(tmp_path / "nowhere.csv")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IngestError, match="holds no file that a reader knows"):
        take(tmp_path / "folder")
    (tmp_path / "x.dbf").write_bytes(b"SIMPLE")
    with pytest.raises(IngestError, match=r"extension '.dbf'.*reader="):
        take(tmp_path / "x.dbf")
    with pytest.raises(IngestError, match="no sources"):
        take([])


def test_header_faults(write: Write, take: Take) -> None:
    with pytest.raises(IngestError, match="column 'mag' twice"):
        take(write("1,2,3", header="mjd,mag,mag"))


def test_broken_gzip(write: Write, take: Take, use_pyarrow: bool) -> None:
    path = write(*(f"a,{58000 + i},18.{i},0.1,g" for i in range(3000)), name="cut.csv.gz")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(IngestError, match=r"cut\.csv\.gz, near line \d+: cannot be read"):
        take(path, use_pyarrow=use_pyarrow)


def test_objects_that_lose_all_rows_are_named(write: Write, take: Take) -> None:
    report, found = take(write(*GOOD, "ghost,58001,nan,0.1,g"))
    assert report.lost_objects == 1
    assert any("ghost" in warning for warning in report.warnings)
    assert b"ghost" not in found["object_id"].tolist()


def test_one_point_and_very_long_objects(take: Take) -> None:
    count = 100_000
    generator = np.random.default_rng(2)
    table = {
        "object": ["short", *["long"] * count],
        "mjd": np.append(58000.0, generator.permutation(count) * 0.01 + 58000),
        "mag": np.append(18.0, generator.normal(18, 0.1, count)),
        "magerr": np.full(count + 1, 0.05),
        "band": np.append("g", generator.choice(["g", "r"], count)),
    }
    report, found = take(table, partition_observations=1000)
    assert sorted(found["counts"].tolist()) == [1, count]
    assert report.partitions == 2


def test_positions(write: Write, take: Take, tmp_path: Path) -> None:
    header = HEADER + ",ra,dec"
    rows = [
        *("a,58001,18,0.1,g,359.9999,1.0", "a,58002,18,0.1,g,0.0003,1.0", "a,58003,18,0.1,g,0.0001,1.0"),
        *(
            "b,58001,18,0.1,g,10,20",
            "c,58001,18,0.1,g,,",
            "d,58001,18,0.1,g,370,20",
            "e,58001,18,0.1,g,9,-91",
        ),
    ]
    report, found = take(write(*rows, header=header))
    ids = found["object_id"].tolist()
    assert found["ra"][ids.index(b"a")] == pytest.approx(0.0001, abs=1e-9)
    assert np.isnan(found["ra"][ids.index(b"c")])
    assert ids[-1] == b"c"
    assert report.dropped == {"ra or dec is out of range": 2}
    assert report.lost_objects == 2
    assert any("1 of 3 objects have no position" in warning for warning in report.warnings)
    assert Archive.open(next(iter(tmp_path.glob("archive*.zarr")))).has_positions
    hours = write(*(f"a,58001,18,0.1,g,{ra},-100" for ra in (1, 2)), header=header, name="bad.csv")
    with pytest.raises(IngestError, match="no position in degrees"):
        take(hours)


def test_table_of_objects(write: Write, take: Take) -> None:
    objects = write("a,10.5,-20.5,RRab", "z,1,1,", header="object,ra,dec,class", name="objects.csv")
    report, found = take(write(*GOOD), objects=objects)
    place = found["object_id"].tolist().index(b"a")
    assert (found["ra"][place], found["dec"][place], found["class"][place]) == (10.5, -20.5, b"RRab")
    assert any("1 objects of" in warning and "no observations" in warning for warning in report.warnings)
    assert any("1 objects are not in" in warning for warning in report.warnings)
    with pytest.raises(IngestError, match="needs a column object"):
        take(write(*GOOD), objects=write("1", header="period", name="other.csv"))
    with pytest.raises(IngestError, match="needs a column object"):
        take(write(*GOOD), objects=write("a,1", header="object,ra", name="lone.csv"))


@pytest.mark.parametrize(
    ("place", "says"), [("400,5", "ra is 400"), ("4,95", "dec is 95"), ("12:00:00,5", "'12:00:00': ra is no")]
)
def test_table_of_objects_without_positions_on_the_sky(
    write: Write, take: Take, use_pyarrow: bool, place: str, says: str
) -> None:
    objects = write("b,1,2", f"a,{place}", header="object,ra,dec", name="objects.csv")
    with pytest.raises(IngestError, match=rf"objects.csv, row 2: {says}"):
        take(write(*GOOD), objects=objects, use_pyarrow=use_pyarrow)


def test_table_of_objects_that_repeats_one(write: Write, take: Take) -> None:
    objects = write("a,1,2", "a,3,4", header="object,ra,dec", name="objects.csv")
    report, found = take(write(*GOOD), objects=objects)
    assert found["ra"][found["object_id"].tolist().index(b"a")] == 1
    assert any("1 rows of" in warning and "first row is taken" in warning for warning in report.warnings)


@pytest.mark.parametrize("words", [{"time_format": "iso"}, {"delimiter": ";;"}, {"delimiter": ""}])
def test_words_that_cannot_be_meant_leave_nothing(
    write: Write, tmp_path: Path, words: dict[str, str]
) -> None:
    with pytest.raises(ParameterError, match=next(iter(words))):
        ingest(write(*GOOD), tmp_path / "a.zarr", survey="ztf", **words)
    assert not (tmp_path / "a.zarr").exists()


def test_existing_archive_and_failed_ingest(write: Write, tmp_path: Path) -> None:
    path = tmp_path / "one.zarr"
    ingest(write(*GOOD), path, survey="ztf")
    before = sorted(file.name for file in path.rglob("*"))
    with pytest.raises(IngestError, match=r"exists already: choose another path"):
        ingest(write(*GOOD), path, survey="ztf")
    assert sorted(file.name for file in path.rglob("*")) == before

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "write":
            raise KeyboardInterrupt

    other, table = tmp_path / "two.zarr", write(*GOOD)
    with pytest.raises(KeyboardInterrupt):
        ingest(table, other, survey="ztf", progress=interrupt)
    with pytest.raises(ArchiveError, match="no published version"):
        Archive.open(other)
    with pytest.raises(IngestError, match="unfinished ingest of other input"):
        ingest(table, other, survey="ztf", duplicates="keep")
    assert ingest(table, other, survey="ztf").rows_kept == len(GOOD)
    assert not (other / "staging").exists()


def test_an_ingest_that_another_process_is_at_is_left_to_it(write: Write, tmp_path: Path) -> None:
    path, table = tmp_path / "one.zarr", write(*GOOD)

    def second(stage: str, done: int, total: int) -> None:
        with pytest.raises(PreflightError, match="another driver"):
            ingest(table, path, survey="ztf")

    ingest(table, path, survey="ztf", progress=second)
    assert Archive.open(path).n_observations == len(GOOD)


def test_times_of_float32_are_questioned(take: Take) -> None:
    table = {"object": ["a"], "mjd": np.array([58001.3], np.float32)}
    report, _ = take(table | {"mag": [18.0], "magerr": [0.1], "band": ["g"]})
    assert report.warnings == ("table in memory: mjd is float32: times come in steps of 0.0039 d (1 rows)",)


def test_parameters_out_of_their_choices(write: Write, take: Take) -> None:
    for options in (
        {"duplicates": "merge"},
        {"on_bad": "ignore"},
        {"photometry": "relative"},
        {"time_format": "unix"},
        {"time_scale": "gps"},
        {"exposure_point": "noon"},
        {"partition_observations": 0},
        {"bands": ["r", "R"]},
    ):
        with pytest.raises(ParameterError):
            take(write(*GOOD), **options)


def test_identifiers_stay_what_they_are(write: Write, take: Take) -> None:
    def ids(*names: str) -> list[Any]:
        rows = [f"{name},58001,18,0.1,g" for name in names]
        return sorted(take(write(*rows))[1]["object_id"].tolist())

    assert ids("7", "18446744073709551615") == [7, 18446744073709551615]
    assert ids("007", "7") == [b"007", b"7"]
    assert ids("18446744073709551616", "7") == [b"18446744073709551616", b"7"]
    assert ids("-7", "7") == [b"-7", b"7"]
    assert ids("0") == [0]


def test_signs_flags_and_optional_columns(write: Write, take: Take) -> None:
    rows = [
        "a,58001,18,0.1,g,t,4,0.9",
        "a,58002,18,0.1,g,0,0,",
        "a,58003,18,0.1,g,,x,0.5",
        "a,58004,18,0.1,g,?,1,?",
    ]
    report, found = take(write(*rows, header=HEADER + ",isdiffpos,catflags,rb"))
    assert found["sign"].tolist() == [1, -1, 0]
    assert found["quality"].tolist() == [4, 0, 1]
    assert report.dropped == {"catflags is no number": 1}
    assert sum("sign cannot be read" in warning for warning in report.warnings) == 1
    assert sum("rb is no number, stored as unknown" in warning for warning in report.warnings) == 1
    signs = write("a,58001,18,0.1,g,-1", "a,58002,18,0.1,g,0", "a,58003,18,0.1,g,1", header=HEADER + ",sign")
    assert take(signs)[1]["sign"].tolist() == [-1, 0, 1]


def test_heliocentric_column_is_questioned(write: Write, take: Take) -> None:
    path = write("a,2458001.5,18,0.1,g", header="object,hjd,mag,magerr,band")
    report, _ = take(path)
    assert any("reference_position='heliocenter'" in warning for warning in report.warnings)
    report, _ = take(path, reference_position="heliocenter")
    assert not report.warnings


def test_report_as_json(write: Write, take: Take) -> None:
    report, _ = take(write(*GOOD, "a,nan,18,0.1,g"))
    found = json.loads(report.to_json())
    assert found["rows_read"] == 4
    assert found["rows_dropped"] == 1
    assert found["guessed"][found["sources"][0]]["time"] == "mjd"
    with pytest.raises(IngestError, match="fault of skytrawl"):
        type(report)(**{**vars(report), "rows_kept": 1})


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"units": "furlong"}, "furlong"),
        ({"units": "m"}, "no unit of a magnitude"),
        ({"units": "nJy"}, "no unit of a magnitude"),
        ({"quantity": "flux", "units": "mag"}, "no unit of a flux"),
        ({"quantity": "flux", "units": "nJy", "zero_point": float("nan")}, "zero_point"),
    ],
)
def test_units_that_cannot_be(tmp_path: Path, words: dict[str, object], says: str) -> None:
    table = {"object": ["a", "a"], "mjd": [58000.0, 58001.0], "mag": [18.0, 18.1], "magerr": [0.1, 0.1]}
    table["band"] = ["g", "g"]
    with pytest.raises(ParameterError, match=says):
        ingest(table, tmp_path / "a", survey="ztf", **words)


def test_ztf_data_release_called_difference(tmp_path: Path) -> None:
    table = {"oid": [1, 1], "mjd": [58000.0, 58001.0], "mag": [18.0, 18.1], "magerr": [0.1, 0.1]}
    table["filtercode"] = ["zg", "zg"]
    said = ingest(table, tmp_path / "a", survey="ztf")
    assert any("--photometry total" in warning for warning in said.warnings)
    assert "object from oid" in str(said)
    right = ingest(table, tmp_path / "b", survey="ztf", photometry="total")
    assert not right.warnings


def test_faint_fluxes_are_no_magnitudes(write: Write, take: Take) -> None:
    """Most of them could be magnitudes; that some cannot gives them away."""
    rows = [f"a,{58000 + i},{20.0 if i % 5 else 400.0},0.1,g" for i in range(50)]
    with pytest.raises(IngestError, match=r"20% of the values lie outside .* pass quantity='flux'"):
        take(write(*rows))
