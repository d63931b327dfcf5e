"""The registry of variables."""

import numpy as np
import pytest

from skytrawl.catalogs.codecs import CODECS
from skytrawl.catalogs.schema import REQUIRED, VARIABLES, attributes, check_dtypes, full_name
from skytrawl.errors import SchemaError


@pytest.mark.parametrize("name", VARIABLES)
def test_every_variable_is_complete(name: str) -> None:
    variable = VARIABLES[name]
    assert variable.dims == (("object",) if name.startswith("objects/") else ("observation",))
    assert variable.codec in CODECS
    assert variable.long_name
    assert variable.comment
    assert full_name(variable.short) == full_name(name) == name
    assert variable.accepts(variable.dtype)
    assert attributes(name)["long_name"] == variable.long_name


def test_dtypes() -> None:
    defaults = {name: VARIABLES[name].dtype for name in REQUIRED}
    assert check_dtypes(defaults) == []
    assert check_dtypes(defaults | {"objects/object_id": "S12"}) == []
    assert VARIABLES["objects/class"].accepts("S5")
    assert not VARIABLES["lightcurves/time"].accepts("float32")
    assert not VARIABLES["objects/object_id"].accepts("U5")
    found = check_dtypes({"lightcurves/time": np.dtype("f4"), "other": "f8"})
    assert len(found) == len(REQUIRED) - 1 + 2
    assert any(str(issue).startswith("lightcurves/time: wrong dtype (found float32") for issue in found)


def test_the_archive_says_the_unit() -> None:
    described = attributes(
        "value", {"units": "nJy", "quantity": "flux", "photometry": "forced difference", "zero_point": 31.4}
    )
    assert (described["units"], described["quantity"], described["zero_point"]) == ("nJy", "flux", 31.4)
    assert attributes("time", {"time": {"scale": "tdb"}})["scale"] == "tdb"


def test_unknown_names() -> None:
    with pytest.raises(SchemaError, match="no variable 'flux'"):
        full_name("flux")
