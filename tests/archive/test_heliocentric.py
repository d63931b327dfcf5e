"""Times back to the Earth, against astropy; the grid that makes exposure times shared again."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytrawl.catalogs import surveys
from skytrawl.catalogs.heliocentric import snap, to_geocentric, to_heliocentric
from skytrawl.errors import ParameterError, SchemaError

MILLISECOND = 1e-3 / 86_400


def random_sky(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    time = generator.choice([44_000, 51_500, 59_800], count) + generator.uniform(0, 700, count)
    ra = generator.uniform(0, 360, count)
    return time, ra, np.degrees(np.arcsin(generator.uniform(-1, 1, count)))


@pytest.mark.parametrize(
    ("scale", "position"), [("utc", "heliocenter"), ("tai", "barycenter"), ("tdb", "heliocenter")]
)
def test_as_astropy_says(scale: str, position: str) -> None:
    from astropy import units
    from astropy.coordinates import EarthLocation, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    time, ra, dec = random_sky(200)
    centre = EarthLocation.from_geocentric(0, 0, 0, "m")
    moments = Time(time, format="mjd", scale=scale, location=centre)
    kind = {"heliocenter": "heliocentric", "barycenter": "barycentric"}[position]
    sky = SkyCoord(ra, dec, unit=units.deg)
    # The Earth's turning, which does not matter at its centre, is not to be downloaded.
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("auto_max_age", None):
        expected = moments.light_travel_time(sky, kind, ephemeris="builtin").to_value("d")
    there = to_heliocentric(time, ra, dec, scale=scale, position=position)
    assert np.abs(there - time - expected).max() < MILLISECOND / 4
    back = to_geocentric(time + expected, ra, dec, scale=scale, position=position)
    assert np.abs(back - time).max() < MILLISECOND / 4
    # The scale matters at the level of 7 ms, the Sun against the barycentre at that of seconds.
    assert np.abs(expected).max() > 480 / 86_400


@settings(max_examples=30)
@given(
    time=st.floats(12_000, 106_000),
    ra=st.floats(0, 360),
    dec=st.floats(-90, 90),
    scale=st.sampled_from(["utc", "tt"]),
)
def test_there_and_back(time: float, ra: float, dec: float, scale: str) -> None:
    there = to_heliocentric(np.array([time]), np.array([ra]), np.array([dec]), scale=scale)
    assert abs(there[0] - time) < 510 / 86_400
    back = to_geocentric(there, np.array([ra]), np.array([dec]), scale=scale)
    assert abs(back[0] - time) < MILLISECOND / 4


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    time, ra, dec = random_sky(2000)
    together = to_geocentric(time, ra, dec)
    few = to_geocentric(time[700:760], ra[700:760], dec[700:760])
    assert together[700:760].tobytes() == few.tobytes()
    counts = np.array([0, 3, 0, 2])
    by_object = to_geocentric(time[:5], ra[:4], dec[:4], counts=counts)
    owner = np.repeat(np.arange(4), counts)
    assert by_object.tobytes() == to_geocentric(time[:5], ra[owner], dec[owner]).tobytes()


def test_what_is_missing_or_unknown() -> None:
    time = np.array([58_000.0, np.nan, 58_001.0])
    found = to_geocentric(time, np.array([1.0, 1.0, np.nan]), np.zeros(3))
    np.testing.assert_array_equal(np.isnan(found), [False, True, True])
    assert np.isnan(to_geocentric(np.full(2, np.nan), np.zeros(2), np.zeros(2))).all()
    assert to_geocentric(np.zeros(0), np.zeros(0), np.zeros(0)).shape == (0,)
    with pytest.raises(ParameterError, match="topocenter"):
        to_geocentric(time, np.zeros(3), np.zeros(3), position="topocenter")
    with pytest.raises(ParameterError, match="2458000"):
        to_geocentric(np.array([2_458_000.5]), np.zeros(1), np.zeros(1))


@given(
    days=st.lists(st.floats(15_000, 90_000), min_size=1, max_size=20),
    resolution=st.sampled_from([1e-5, 1e-6, 1e-4, 3e-5, 1 / 86_400]),
)
def test_the_grid(days: list[float], resolution: float) -> None:
    times = np.array(days)
    snapped, error = snap(times, resolution)
    assert error == np.abs(snapped - times).max() <= resolution * 0.5 + 1e-11
    again, _ = snap(snapped, resolution)
    np.testing.assert_array_equal(again, snapped)
    assert (np.diff(snapped[np.argsort(times)]) >= 0).all()


def test_the_grid_gives_the_doubles_of_the_text() -> None:
    texts = np.array([f"{number / 1e5:.5f}" for number in range(5_800_000_000, 5_800_300_000, 997)])
    times = texts.astype(np.float64)
    assert snap(times + 3e-6, 1e-5)[0].tobytes() == times.tobytes()
    for wrong in (0, 1.0, np.nan, 1e-9):
        with pytest.raises(ParameterError, match="resolution"):
            snap(times, wrong)


def test_a_survey_asks_for_it(tmp_path: Path) -> None:
    text = (Path(surveys.__file__).parent / "ogle.toml").read_text()
    wanted = 'reference_position = "heliocenter"\nrecover_exposure = true\nresolution = 1e-5'
    file = tmp_path / "own.toml"
    file.write_text(text.replace('reference_position = "heliocenter"', wanted))
    survey = surveys.load_survey(file)
    assert (survey.recover_exposure, survey.resolution) == (True, 1e-5)
    assert surveys.Survey.from_dict(survey.to_dict()) == survey
    assert not surveys.load_survey("ogle").recover_exposure
    for old, new, complaint in (
        ("resolution = 1e-5", "", "time/resolution"),
        ("resolution = 1e-5", "resolution = 3", "time/resolution"),
        ("= true", '= "yes"', "time/recover_exposure"),
        ('"heliocenter"', '"topocenter"', "not moved away from the Earth"),
    ):
        file.write_text(text.replace('reference_position = "heliocenter"', wanted.replace(old, new)))
        with pytest.raises(SchemaError, match=complaint):
            surveys.load_survey(file)
