"""Colour keys in every documented form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytrawl.catalogs.band_keys import default_keys, key_label, parse_key, parse_keys
from skytrawl.errors import ParameterError

BANDS = ["g", "R", "lsst-u", "zp", "F146"]


@pytest.mark.parametrize("key", ["g-R", ["g", "R"], ("g", "R"), '["g","R"]', " g-R "])
def test_all_forms_of_a_colour_key(key: object) -> None:
    assert parse_key(key, BANDS) == ("g", "R")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "pair"),
    [
        ("F146", ("F146", "F146")),
        ("lsst-u", ("lsst-u", "lsst-u")),
        ("lsst-u-g", ("lsst-u", "g")),
        ("g-lsst-u", ("g", "lsst-u")),
        (["g"], ("g", "g")),
    ],
)
def test_names_of_any_length(key: object, pair: tuple[str, str]) -> None:
    assert parse_key(key, BANDS) == pair  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["x", "g-x", "-", "g-", ["g", "x"], ["g", "R", "g"], "[g", ["x"]])
def test_unknown_bands_are_named(key: object) -> None:
    with pytest.raises(ParameterError, match=r"key .*(known|one band|JSON)"):
        parse_key(key, BANDS)  # type: ignore[arg-type]


def test_ambiguous_text_is_refused_and_the_list_is_not() -> None:
    bands = ["a", "b", "a-b"]
    with pytest.raises(ParameterError, match="may mean"):
        parse_key("a-b", bands)
    assert parse_key(["a", "b"], bands) == ("a", "b")


def test_twice_is_refused() -> None:
    with pytest.raises(ParameterError, match="g-R is given twice"):
        parse_keys(["g-R", ["g", "R"]], BANDS)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("g-R,R-g", ["g-R", "R-g"]),
        ('["g","R"]', ["g-R"]),
        ('["g"]', ["g"]),
        ('["g", "R", "g-R"]', ["g", "R", "g-R"]),
        ('["g-R","R-g"]', ["g-R", "R-g"]),
        ('[["g","R"],["R","g"]]', ["g-R", "R-g"]),
        ('{"1":"g-R","2":"R-g"}', ["g-R", "R-g"]),
        ('F146, ["g","R"],zp', ["F146", "g-R", "zp"]),
        ('["g","R"],["R","g"]', ["g-R", "R-g"]),
        ("", ["g", "R", "lsst-u", "zp", "F146"]),
    ],
)
def test_text_of_several_keys(text: str, labels: list[str]) -> None:
    """As a whole, and in the pieces that a command line cuts at the commas."""
    pieces = tuple(part.strip() for part in text.split(",") if part.strip())
    for keys in (text, pieces):
        assert [key_label(pair) for pair in parse_keys(keys, BANDS)][: len(labels)] == labels
    with pytest.raises(ParameterError, match="JSON"):
        parse_keys('["g",', BANDS)


def test_default_is_every_band_and_ordered_pair() -> None:
    assert [key_label(pair) for pair in parse_keys([], ["g", "R"])] == ["g", "R", "g-R", "R-g"]


@given(st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=5, unique=True))
def test_label_reads_back(bands: list[str]) -> None:
    for pair in default_keys(bands):
        assert parse_key(key_label(pair), bands) == pair
        assert parse_key(list(pair), bands) == pair
