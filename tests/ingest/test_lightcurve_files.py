"""Folders of one file a light curve: every number as written, every fault with file and line."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytrawl.catalogs.readers import find_reader, lightcurves, sources_of
from skytrawl.catalogs.readers.listing import pack, unpack
from skytrawl.catalogs.readers.table import Options
from skytrawl.catalogs.surveys import Files, Survey, load_survey
from skytrawl.catalogs.times import to_mjd
from skytrawl.errors import IngestError, SchemaError

Take = Callable[..., Any]
KINDS = {"object": "id", "band": "coded", "time": "decimal", "value": "number", "error": "number"}
LINES = ["2455260.85336 17.123 0.006", "2455261.85000 17.2 0.010", "2455262.8 1.7e1 .5"]


def lay(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def text_of(lines: list[str]) -> str:
    return "".join(line + "\n" for line in lines)


def read(source: Path, options: Options, kinds: dict[str, str] | None = None) -> dict[str, Any]:
    """All rows of a source, and what was rejected as (place, reason, text)."""
    reader, _ = find_reader(source, options)
    found: dict[str, list[Any]] = {name: [] for name in (*(kinds or KINDS), "rejected", "formats")}
    for piece in reader.pieces(source, options):
        for chunk in reader.chunks(piece, kinds or KINDS, options):
            for name in kinds or KINDS:
                column = chunk.columns[name]
                found[name] += (column.texts() if hasattr(column, "texts") else column).tolist()
            found["formats"] += [chunk.time_format] * len(chunk)
            assert chunk.places is not None
            for reason, rows, texts in chunk.rejected:
                found["rejected"] += [
                    (chunk.places.of("", int(row)), reason, text)
                    for row, text in zip(rows, texts, strict=True)
                ]
    return found


def ogle(**words: Any) -> Options:
    return Options(files=load_survey("ogle").files, **words)


def test_collection_of_variable_stars(tmp_path: Path, take: Take, use_pyarrow: bool) -> None:
    generator = np.random.default_rng(1)
    expected: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
    files: dict[str, str | bytes] = {}
    for number in range(200):
        star, band = f"OGLE-BLG-ECL-{number // 2:06d}", "IV"[number % 2]
        rows = [
            (f"{2455000 + time:.5f}", f"{value:.3f}", f"{error:.3f}")
            for time, value, error in zip(
                np.sort(generator.uniform(0, 3000, 20)),
                generator.normal(17, 1, 20),
                generator.uniform(0.003, 0.2, 20),
                strict=True,
            )
        ]
        expected[star, band] = rows
        files[f"phot/{band}/{star}.dat"] = text_of([" ".join(row) for row in rows])
    files["README"] = "not a light curve"
    report, found = take(lay(tmp_path / "ocvs", files), survey="ogle", use_pyarrow=use_pyarrow)
    assert report.rows_read == report.rows_kept == 4000
    assert any("passed over (1 without suffix)" in text for text in report.warnings)
    for (star, band), rows in expected.items():
        mine = (found["object"] == star.encode()) & (found["band"] == band)
        times, values, errors = zip(*rows, strict=True)
        assert found["time"][mine].tolist() == to_mjd(np.array(times, "S"), "jd")[0].tolist()
        assert found["value"][mine].tolist() == [float(text) for text in values]
        assert found["error"][mine].tolist() == [float(text) for text in errors]


number = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(-99, 99, places=4, allow_nan=False).map(str),
)
row = st.lists(number, min_size=3, max_size=3)


@settings(max_examples=40, deadline=None)
@given(
    tables=st.lists(st.lists(row, min_size=1, max_size=5), min_size=1, max_size=4),
    gap=st.sampled_from([" ", "  ", "\t", " \t  "]),
    lead=st.sampled_from(["", "   "]),
    end=st.sampled_from(["\n", "\r\n", " \n"]),
    last=st.sampled_from(["", "\n", "\n\n", "\n \n\n"]),
    comment=st.sampled_from(["", "# HJD I\n", "\n#\n"]),
    lean=st.booleans(),
)
def test_any_way_of_writing_reads_alike(
    tmp_path_factory: pytest.TempPathFactory,
    tables: list[list[list[str]]],
    gap: str,
    lead: str,
    end: str,
    last: str,
    comment: str,
    lean: bool,
) -> None:
    folder = tmp_path_factory.mktemp("curves")
    files: dict[str, str | bytes] = {}
    for place, table in enumerate(tables):
        lines = [lead + gap.join(fields) for fields in table]
        files[f"{place}.dat"] = comment + end.join(lines) + last
    found = read(lay(folder, files), ogle(use_pyarrow=not lean))
    assert found["rejected"] == []
    rows = [fields for table in tables for fields in table]
    assert found["value"] == [float(fields[1]) for fields in rows]
    assert found["error"] == [float(fields[2]) for fields in rows]
    assert found["time"] == [fields[0].encode() for fields in rows]
    assert found["object"] == [str(place).encode() for place, table in enumerate(tables) for _ in table]


def test_bad_lines_are_named(tmp_path: Path, take: Take, use_pyarrow: bool) -> None:
    good = text_of([*LINES[:2], *(f"{2455300 + day}.5 17.0 0.01" for day in range(10))])
    bad = "# HJD I error\n" + LINES[0] + "\n2455261.5 bright 0.1\n\n2455262.5 17.1\n" + good
    files: dict[str, str | bytes] = {
        "I/a.dat": good,
        "I/b.dat": bad,
        "I/c.dat": good.replace("17.2 ", "99.999 "),
    }
    report, found = take(lay(tmp_path / "phot", files), survey="ogle", use_pyarrow=use_pyarrow)
    assert report.rows_read == 39
    assert len(found["value"]) == report.rows_kept == 35  # one row twice
    shown = {place for places in report.examples.values() for place in places}
    assert any("phot/I/b.dat, line 3: 'bright'" in place for place in shown)
    assert any("phot/I/b.dat, line 5: '2455262.5 17.1'" in place for place in shown)
    assert any("phot/I/c.dat, line 2: '99.999'" in place for place in shown)
    with pytest.raises(IngestError, match=r"phot/I/b.dat, line [35]"):
        take(tmp_path / "phot", survey="ogle", on_bad="raise")


def test_files_that_cannot_be_read(tmp_path: Path, take: Take, use_pyarrow: bool) -> None:
    good = text_of(LINES)
    whole = gzip.compress(good.encode() * 1000, mtime=0)
    files: dict[str, str | bytes] = {
        "I/Broken.dat": b"\0",
        "I/a.dat": good,
        "I/empty.dat": "",
        "I/blank.dat": "\n \n",
        "I/binary.dat": bytes(range(256)),
        "I/cut.dat.gz": whole[:-20],
        "I/latin.dat": "2455261.5 17.1 0.1 gr\xf6\xdfe\n".encode("latin-1") + b"x\n",
        "I/narrow.dat": "2455261.5\n2455262.5\n",
        "I/z.dat": good,
    }
    folder = lay(tmp_path / "phot", files)
    (folder / "I" / "nothing.dat").symlink_to("nowhere")
    (folder / "I" / "again").symlink_to("../..")
    report, found = take(folder, survey="ogle", use_pyarrow=use_pyarrow)
    assert sorted(set(found["object"].tolist())) == [b"a", b"z"]
    assert report.rows_kept == 6
    refused = read(folder, ogle(use_pyarrow=use_pyarrow))["rejected"]
    assert {Path(place).stem for place, _, _ in refused} == {
        "Broken",
        "nothing",
        "empty",
        "blank",
        "binary",
        "cut.dat",
        "latin",
        "narrow",
    }
    assert report.rows_read == report.rows_kept + sum(report.dropped.values())
    for name in ("empty", "binary", "narrow"):
        with pytest.raises(IngestError, match=rf"{name}\.dat"):
            take(folder / "I" / f"{name}.dat", survey="ogle", use_pyarrow=use_pyarrow)
    with pytest.raises(IngestError, match=r"cut\.dat\.gz.*end-of-stream"):
        take(folder / "I" / "cut.dat.gz", survey="ogle")


def test_two_forms_of_dates(tmp_path: Path, take: Take, use_pyarrow: bool) -> None:
    full = text_of(LINES)
    files: dict[str, str | bytes] = {"phot3/I/a.dat": full.replace("245", "", 3).replace("\n245", "\n")}
    files["phot3/I/a.dat"] = "5260.85336 17.123 0.006\n5261.85 17.2 0.01\n5262.8 17 0.5\n"
    files["phot4/I/b.dat"] = full
    folder = lay(tmp_path / "ogle", files)
    _, found = take(folder, survey="ogle", use_pyarrow=use_pyarrow)
    assert found["time"][:3].tolist() == found["time"][3:].tolist()
    assert set(read(folder, ogle())["formats"]) == {"jd", "jd-2450000"}
    with pytest.raises(IngestError, match=r"phot4/I/b.dat, line 1: time holds values about.*Julian dates"):
        take(folder / "phot4", survey="ogle", time_format="mjd")


def test_early_warning_system_and_widths(tmp_path: Path, take: Take) -> None:
    wide = "2455260.85336 18.121 0.062  5.85   1234.0\n2455261.85336 18.131 0.063  6.85   1034.0\n"
    folder = lay(tmp_path / "2019", {"blg-0001/phot.dat": wide, "blg-0002/phot.dat": wide})
    lay(folder, {"blg-0003/phot.dat": text_of(LINES)})
    report, found = take(folder, survey="ogle")
    assert report.rows_kept == 7
    assert set(found["object"].tolist()) == {b"blg-0001", b"blg-0002", b"blg-0003"}
    assert set(found["band"]) == {"I"}


def test_one_band_named(tmp_path: Path, take: Take) -> None:
    folder = lay(tmp_path / "stars", {"a.dat": text_of(LINES)})
    with pytest.raises(IngestError, match=r"stars/a.dat, line 1: most rows have bands.*'stars'.*band="):
        take(folder, survey="ogle")
    _, found = take(folder, survey="ogle", columns={"band": "V"})
    assert set(found["band"]) == {"V"}
    _, alone = take(folder / "a.dat", survey="ogle", columns={"band": "V"})
    assert alone["value"].tolist() == found["value"].tolist()
    assert alone["object"].tolist() == [b"a"] * 3


def test_asassn(tmp_path: Path, take: Take, use_pyarrow: bool) -> None:
    first = (
        "HJD,UT Date,Camera,FWHM,Limit,mag,mag_err,flux(mJy),flux_err,Filter\n"
        "2458000.47009,2017-09-03.9710173,be,1.77,15.518,14.839,0.117,4.448,0.477,V\r\n"
        "2458002.51020,2017-09-06.0112978,be,2.03,14.814,>14.814,99.990,4.020,0.911,V\n"
        '2458003.51020,2017-09-06.0112978,"be",2.03,14.814, 14.9 ,0.1,4.020,0.911,"g"\n'
    )
    second = (
        "# ASAS-SN Sky Patrol\n#\n\nJD,Flux,Flux Error,Mag,Mag Error,Limit,FWHM,Filter,Quality\n"
        "2457148.1143957,26.0455,0.1300,12.9204,0.0054,16.9278,1.70,V,G\n"
        "2457149.1143957,26.0455,0.1300,99.99,0.0054,16.9278,1.70,V,G\n"
    )
    folder = lay(tmp_path / "sky", {"one.csv": first, "two.csv": second})
    report, found = take(folder / "one.csv", survey="asassn", use_pyarrow=use_pyarrow)
    assert report.rows_kept == report.rows_read == 3
    order = np.argsort(found["time"])
    assert found["value"][order].tolist() == [14.839, 14.814, 14.9]
    assert found["upper_limit"][order].tolist() == [False, True, False]
    assert found["band"][order].tolist() == ["V", "V", "g"]
    assert set(found["object"].tolist()) == {b"one"}
    # Files with other names of columns are refused one by one.
    report, found = take(folder, survey="asassn", use_pyarrow=use_pyarrow)
    assert report.rows_kept == 3
    assert any(
        'two.csv: "it has 9 columns, and none called' in text for text in report.examples[lightcurve_reason()]
    )
    report, found = take(folder / "two.csv", survey="asassn", reference_position="topocenter")
    assert found["time"].tolist() == to_mjd(np.array([b"2457148.1143957"]), "jd")[0].tolist()
    assert report.dropped == {"value is outside -30 to 40 mag": 1}


def lightcurve_reason() -> str:
    from skytrawl.catalogs.readers.curve_batches import REFUSED

    return REFUSED


def test_kmtnet(tmp_path: Path, take: Take) -> None:
    rows = "HJD Delta_flux flux_err mag mag_err fwhm sky secz\n" + text_of(
        [f"{2458000 + day}.5 {day} 1.0 {17 + day / 8} 0.01 1.2 300 1.1" for day in range(4)]
    )
    published = text_of([f"{8000 + day}.5 {17 + day / 8} 0.01 1.2 300" for day in range(4)])
    folder = lay(
        tmp_path / "data",
        {
            "KB170001/pysis/KMTA01_I.pysis": rows,
            "KB170001/pysis/KMTC01_V.pysis": rows,
            "other/I_KMTC01_I.TLC": published,
        },
    )
    report, found = take(folder, survey="kmt")
    assert set(found["object"].tolist()) == {b"KB170001-KMTA01", b"KB170001-KMTC01"}
    assert sorted(found["value"]) == sorted([17 + day / 8 for day in range(4)] * 2)
    assert set(found["band"]) == {"I", "V"}
    assert any("1 .TLC" in text for text in report.warnings)
    _, other = take(folder / "other", survey="kmt")
    assert other["object"].tolist() == [b"other-I_KMTC01"] * 4
    assert other["time"].tolist() == found["time"][:4].tolist()
    with pytest.raises(IngestError, match="does not fit"):
        take(lay(tmp_path / "x", {"plain.pysis": rows}) / "plain.pysis", survey="kmt")


def test_columns_by_number(tmp_path: Path, take: Take, use_pyarrow: bool) -> None:
    rows = [f"{number};g;{58000 + number}.25;{18 + number / 64};0.1" for number in range(5)]
    folder = lay(tmp_path / "run", {"s1/lc.txt": text_of(rows), "s2/lc.txt": text_of(rows)})
    columns = {"time": "3", "value": "4", "error": "5", "band": "2", "object": "{parent}"}
    words = {"columns": columns, "reader": "lightcurves", "delimiter": ";", "use_pyarrow": use_pyarrow}
    report, found = take(folder, survey="ztf", **words)
    assert report.rows_kept == 10
    assert found["value"].tolist() == [18 + number / 64 for number in range(5)] * 2
    assert found["object"].tolist() == [b"s1"] * 5 + [b"s2"] * 5
    with pytest.raises(IngestError, match="'6'"):
        take(folder, survey="ztf", **(words | {"columns": columns | {"error": "6"}}))


def test_pieces_and_long_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use_pyarrow: bool) -> None:
    files: dict[str, str | bytes] = {
        f"I/star {number}é.dat": text_of([f"24552{number:02d}.{row:03d} 17.{row} 0.1" for row in range(50)])
        for number in range(30)
    }
    folder = lay(tmp_path / "phot", files)
    whole = read(folder, ogle(use_pyarrow=use_pyarrow))
    assert len(lightcurves.pieces(folder, ogle())) == 1
    options = ogle(use_pyarrow=use_pyarrow, piece_rows=200, chunk_rows=70)
    parts = lightcurves.pieces(folder, options)
    assert len(parts) > 5
    assert json.loads(json.dumps([piece.part for piece in parts])) == [list(piece.part) for piece in parts]
    assert sum(int(piece.part[0]) for piece in parts) == 30
    monkeypatch.setattr(lightcurves, "_BLOCK", 256)
    again = read(folder, options)
    assert again == whole
    assert len(whole["time"]) == 1500
    again = read(lay(folder, {"I/last.dat": text_of(LINES) * 30 + "1 2\n"}), options)
    assert again["rejected"][0][0] == "I/last.dat, line 91"


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1), min_size=1))
def test_packed_names(names: list[str]) -> None:
    assert unpack(pack(names)) == names


def test_packed_names_are_short() -> None:
    names = [f"I/OGLE-BLG-ECL-{number:06d}.dat" for number in range(4000)]
    assert len(pack(names)) < 6 * len(names)


def test_folders_are_asked_in_order(tmp_path: Path) -> None:
    folder = lay(tmp_path / "mixed", {"a.csv": "object,mjd,mag,magerr,band\n", "b.dat": text_of(LINES)})
    assert sources_of(folder, ogle()) == [folder]
    assert sources_of(folder) == sources_of(folder, ogle(), "csv") == [folder / "a.csv", folder / "b.dat"]
    assert sources_of(folder, Options(), "lightcurves") == [folder]


def test_forms_of_files_are_checked(tmp_path: Path) -> None:
    from skytrawl.catalogs.surveys import description

    text = (Path(description.__file__).parent / "ztf.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(
        text + '\n[[files]]\nsuffixes = [".LC"]\npath = "("\nband = "{site}"\ntime_formats = ["js"]\n'
    )
    with pytest.raises(SchemaError) as caught:
        load_survey(path)
    for part in ("lower case", "regular expression", "'site'", "'js'", "4 faults"):
        assert part.strip("'") in str(caught.value)
    path.write_text(text + '\n[[files]]\nsuffix = ".lc"\ncolumns = "time"\nheading = 1\nobject = 3\n')
    with pytest.raises(SchemaError, match="4 faults"):
        load_survey(path)
    path.write_text(text + '\n[[files]]\nsuffixes = [".lc"]\ncolumns = ["time", "value"]\n')
    survey = load_survey(path)
    assert survey.files == (Files(suffixes=(".lc",), columns=("time", "value")),)
    assert Survey.from_dict(json.loads(json.dumps(survey.to_dict()))) == survey


def test_real_light_curves(tmp_path: Path, take: Take) -> None:
    reference = os.environ.get("SKYTRAWL_REFERENCE_DATA")
    if not reference:
        pytest.skip("SKYTRAWL_REFERENCE_DATA is not set")
    files: dict[str, str | bytes] = {}
    curves = {}
    for path in sorted((Path(reference) / "microlensing").glob("ob*_ogle.npy")):
        time, flux, error = np.load(path).T
        usable = (flux > 0) & (time > 1000)
        rows = np.stack([time, 22 - 2.5 * np.log10(flux), 1.0857 * error / flux], 1)[usable]
        curves[path.stem.encode()] = rows
        files[f"I/{path.stem}.dat"] = text_of([" ".join(map(repr, row)) for row in rows.tolist()])
    assert curves
    _, found = take(lay(tmp_path / "phot", files), survey="ogle", duplicates="keep")
    for name, rows in curves.items():
        mine = found["object"] == name
        order = np.argsort(rows[:, 0], kind="stable")
        assert found["value"][mine].tolist() == rows[order, 1].tolist()
        assert found["error"][mine].tolist() == rows[order, 2].tolist()
