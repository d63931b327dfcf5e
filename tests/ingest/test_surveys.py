"""Survey descriptions: the facts of those that ship, and every fault of one that does not."""

from pathlib import Path

import numpy as np
import pytest

from skytrawl.catalogs.surveys import Survey, list_surveys, load_survey
from skytrawl.errors import IngestError, SchemaError
from skytrawl.intake.driver import ingest

BANDS = {
    "asassn": ("g", "V"),
    "ztf": ("g", "r", "i"),
    "lsst": ("u", "g", "r", "i", "z", "y"),
    "sdss": ("u", "g", "r", "i", "z"),
    "ogle": ("V", "I"),
    "kmt": ("V", "I"),
    "roman": ("F062", "F087", "F106", "F129", "F146", "F158", "F184", "F213"),
}
MEANING = {
    "asassn": ("magnitude", "total", "mag", "Vega", "utc", "heliocenter", "unknown"),
    "ztf": ("magnitude", "difference", "mag", "AB", "utc", "topocenter", "start"),
    "lsst": ("flux", "difference", "nJy", "AB", "tai", "topocenter", "middle"),
    "sdss": ("magnitude", "total", "mag", "AB", "tai", "topocenter", "unknown"),
    "ogle": ("magnitude", "total", "mag", "Vega", "utc", "heliocenter", "middle"),
    "kmt": ("magnitude", "total", "mag", "Vega", "utc", "heliocenter", "unknown"),
    "roman": ("flux", "total", "nJy", "AB", "utc", "topocenter", "middle"),
}


def test_all_surveys_ship() -> None:
    assert list_surveys() == sorted(BANDS)


@pytest.mark.parametrize("name", sorted(BANDS))
def test_bands_and_meaning(name: str) -> None:
    survey = load_survey(name)
    assert survey.band_names == BANDS[name]
    found = (
        *(survey.quantity, survey.photometry, survey.units, survey.magnitude_system),
        *(survey.time_scale, survey.reference_position, survey.exposure_point),
    )
    assert found == MEANING[name]
    wavelengths = [band.wavelength for band in survey.bands]
    assert wavelengths == sorted(wavelengths)
    assert min(wavelengths) > 300
    assert max(wavelengths) < 2500


def test_zero_point_of_a_nanojansky() -> None:
    assert load_survey("lsst").zero_point == pytest.approx(-2.5 * np.log10(1e-9 / 3631), abs=1e-3)


@pytest.mark.parametrize(("mark", "name"), [("R", "r"), ("2", "r"), ("zg", "g"), ("i", "i"), ("V", None)])
def test_names_of_a_filter(mark: str, name: str | None) -> None:
    band = load_survey("ztf").band(mark)
    assert (band.name if band else None) == name


def test_total_fluxes_are_no_guess_for_differences() -> None:
    """The only flux of a table is not taken for what the survey's photometry kind does not say."""
    columns = {"diaObjectId": [1], "midpointMjdTai": [60000.0], "scienceFlux": [1.0], "scienceFluxErr": [0.1]}
    with pytest.raises(IngestError, match=r"value \(flux\): name it"):
        ingest(columns | {"band": ["g"]}, "never.zarr", survey="lsst")


def test_every_file_cites_its_source() -> None:
    for name in list_surveys():
        assert load_survey(name).citation
        text = (Path(__file__).parents[2] / "catalogs" / "surveys" / f"{name}.toml").read_text()
        assert text.count("#") >= 6, f"{name}.toml states no sources"


def test_own_survey_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\n[light_curves]\nquantity = "flux"\nphotometry = "total"\n'
        'units = "uJy"\nzero_point = 23.9\n'
        '[time]\nscale = "tdb"\nreference_position = "barycenter"\n'
        '[[bands]]\nname = "clear"\nwavelength = 600\n'
    )
    survey = load_survey(path)
    assert isinstance(survey, Survey)
    assert survey.band_names == ("clear",)
    assert survey.zero_point == 23.9
    assert survey.to_dict()["bands"] == [{"name": "clear", "wavelength": 600.0}]
    assert load_survey(survey) is survey


def test_every_fault_is_listed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(
        'colour = 1\n[light_curves]\nquantity = "counts"\nphotometry = "total"\n[time]\nscale = "gps"\n'
        '[[bands]]\nname = "r"\nwavelength = 600\nspelling = ["R"]\n[[bands]]\nname = "g"\nwavelength = 480\n'
        'codes = ["r"]\n[columns]\ntime = "mjd"\nmoment = ["t"]\n'
    )
    with pytest.raises(SchemaError) as caught:
        load_survey(path)
    message = str(caught.value)
    expected = (
        *("colour", "name: is missing", "light_curves/quantity", "light_curves/units", "time/scale"),
        *("time/reference_position", "bands[0]/spelling", "bands must ascend", "'r' is taken"),
        *("columns/time", "columns/moment"),
    )
    for fault in expected:
        assert fault in message, fault


def test_unknown_survey_names_the_choices(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"no survey 'desi'.*ztf"):
        load_survey("desi")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ")
    with pytest.raises(SchemaError, match="no valid TOML"):
        load_survey(broken)
