"""The scripts of docs/examples do what they say."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


def test_all_examples_are_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"template_scan.py", "template_free_scan.py"}


@pytest.mark.parametrize(
    ("script", "said", "pictures"),
    [
        ("template_scan", "the planet: bump at 2842.0", ["scan.png", "scan-event.png", "window.png"]),
        ("template_free_scan", "MOA_R: 5 points", ["template-free.png", "template-free-event.png"]),
    ],
)
def test_example(
    script: str,
    said: str,
    pictures: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / f"{script}.py"), run_name="__main__")
    assert said in capsys.readouterr().out
    for name in pictures:
        assert (tmp_path / name).stat().st_size > 20_000
