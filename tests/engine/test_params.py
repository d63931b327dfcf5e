"""Parameters: coercion, refusal, fingerprints, differences, TOML."""

import inspect
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytrawl.errors import ParameterError
from skytrawl.job import Job, get_job, job_names, location_of, register
from skytrawl.params import (
    build,
    content_fingerprint,
    differences,
    fingerprint,
    from_toml,
    parameter_dict,
    parameters_of,
    to_toml,
)


@dataclass(frozen=True)
class Sample:
    limit: float = field(default=22.0, metadata={"help": "Faintest.", "unit": "mag"})
    rows: int = 2
    flag: bool = False
    mode: str = field(default="mean", metadata={"choices": ("mean", "tail")})
    bands: tuple[str, ...] = ("g", "r")
    span: tuple[float, float] = (0.0, 1.0)
    cut: float | None = None
    kind: Literal["a", "b"] = "a"
    path: Path | None = None


@pytest.mark.parametrize(
    ("name", "given_", "expected"),
    [
        ("limit", "21.5", 21.5),
        ("limit", "inf", float("inf")),
        ("rows", "3", 3),
        ("rows", 3.0, 3),
        ("rows", np.int64(4), 4),
        ("flag", "yes", True),
        ("flag", "off", False),
        ("mode", "tail", "tail"),
        ("bands", "g, R,i", ("g", "R", "i")),
        ("bands", ["u"], ("u",)),
        ("span", "1,2", (1.0, 2.0)),
        ("cut", "none", None),
        ("cut", "0.2", 0.2),
        ("kind", "b", "b"),
        ("path", "a/b", Path("a/b")),
    ],
)
def test_text_is_read_by_annotation(name: str, given_: Any, expected: Any) -> None:
    value = getattr(build(Sample, {name: given_}), name)
    assert value == expected
    assert type(value) is type(expected)


def test_nan_is_a_float() -> None:
    assert np.isnan(build(Sample, limit="nan").limit)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"limt": 1}, "unknown parameter 'limt'.*did you mean 'limit'.*known: limit, rows"),
        ({"limit": "faint"}, "limit: 'faint' is not a number"),
        ({"limit": True}, "limit: True is not a number"),
        ({"rows": 2.5}, "rows: 2.5 is not a whole number"),
        ({"flag": "perhaps"}, "flag: 'perhaps' is not true or false"),
        ({"mode": "tial"}, "mode: 'tial' is not allowed; choose one of mean, tail.*did you mean 'tail'"),
        ({"span": "1,2,3"}, "span: .*expected 2 values, found 3"),
        ({"kind": "c"}, "kind: 'c' is not one of a, b"),
        ({"bands": 3}, "bands: 3 is not a list"),
    ],
)
def test_errors_name_parameter_and_remedy(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        build(Sample, values)


def test_missing_parameter() -> None:
    @dataclass(frozen=True)
    class Needs:
        reference: str

    with pytest.raises(ParameterError, match="missing parameter reference"):
        build(Needs)


def test_descriptions() -> None:
    infos = {info.name: info for info in parameters_of(Sample)}
    assert infos["limit"].unit == "mag"
    assert infos["mode"].choices == ("mean", "tail")
    assert infos["kind"].choices == ("a", "b")
    assert infos["flag"].is_flag
    assert infos["cut"].type_name == "a number, or none"


def test_fingerprint_is_stable_and_canonical() -> None:
    assert fingerprint({"b": 1, "a": (1, 2.5)}) == fingerprint({"a": [1, 2.5], "b": 1})
    assert fingerprint({"a": float("nan")}) == fingerprint({"a": float("nan")})
    assert fingerprint({"a": 1.0}) != fingerprint({"a": 1.0000000000000002})
    # Written down, so that a change of the rule cannot pass unseen: it would orphan every results store.
    assert fingerprint(parameter_dict(Sample())) == "04803cbb7b614230"
    left = content_fingerprint({"a": np.arange(3)})
    assert left != content_fingerprint({"a": np.arange(3.0)})
    assert left != content_fingerprint({"a": np.arange(4)})


def test_differences_in_words() -> None:
    assert differences({"a": 1, "b": (1,)}, {"a": 2, "b": [1]}) == ["a: 1 before, now 2"]
    assert differences({"a": 1}, {"b": 1}) == ["a: 1 before, now absent", "b: absent before, now 1"]
    assert differences(parameter_dict(Sample()), parameter_dict(Sample())) == []


@given(
    st.builds(
        Sample,
        limit=st.floats(),
        rows=st.integers(),
        flag=st.booleans(),
        bands=st.lists(st.text(st.characters(codec="ascii", exclude_characters="\x7f")), max_size=4).map(
            tuple
        ),
        cut=st.none() | st.floats(allow_nan=False),
    )
)
def test_toml_round_trip(tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> None:
    path = tmp_path_factory.mktemp("toml") / "p.toml"
    path.write_text(to_toml(sample))
    assert parameter_dict(from_toml(Sample, path)) == parameter_dict(sample)


def test_toml_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no such parameter file"):
        from_toml(Sample, tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("limit = = 3")
    with pytest.raises(ParameterError, match=r"bad\.toml: not a TOML file"):
        from_toml(Sample, tmp_path / "bad.toml")
    (tmp_path / "wrong.toml").write_text("[job]\nlimit = 'x'\n")
    with pytest.raises(ParameterError, match=r"wrong\.toml: parameter limit"):
        from_toml(Sample, tmp_path / "wrong.toml", "job")
    assert from_toml(Sample, _written(tmp_path, "limit = 20"), rows="5") == Sample(limit=20.0, rows=5)


def _written(folder: Path, text: str) -> Path:
    (folder / "good.toml").write_text(text)
    return folder / "good.toml"


def test_registry() -> None:
    assert {"dmdt-maps", "dmdt-reference", "dmdt-score", "test-mean"} <= set(job_names())
    assert get_job("test-mean").name == "test-mean"
    with pytest.raises(ParameterError, match="did you mean 'dmdt-score'"):
        location_of("dmdt-scores")
    with pytest.raises(ParameterError, match="already registered"):
        register("test-mean", "other:JOB")
    with pytest.raises(ParameterError, match="module:attribute"):
        register("new", "nonsense")


def test_incomplete_jobs_are_refused() -> None:
    for kind in ("rows", "reduction", "other"):
        with pytest.raises(ValueError, match="x"):
            Job(
                name="x", summary="", parameters=Sample, needs=lambda p, a: (), block=lambda *a: {}, kind=kind
            )


def test_no_parameter_has_the_name_of_an_option_of_the_engine() -> None:
    from skytrawl.graph import lazy
    from skytrawl.planner import plan
    from skytrawl.runner import run

    taken = {name for call in (run, plan, lazy) for name in inspect.signature(call).parameters}
    for name in job_names():
        own = {field.name for field in fields(get_job(name).parameters)}
        assert not own & taken, f"parameters of {name} would be taken for options of the engine"
