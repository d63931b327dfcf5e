"""The notebook of docs/examples runs from its first cell to its last, and carries no results."""

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "examples" / "explore_images.ipynb"


def code_cells() -> list[dict]:
    found = json.loads(NOTEBOOK.read_text())
    assert found["nbformat"] == 4
    return [cell for cell in found["cells"] if cell["cell_type"] == "code"]


def test_it_is_stored_without_results() -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code_cells())


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "notebook"}
    for number, cell in enumerate(code_cells(), start=1):
        exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}[cell {number}]", "exec"), namespace)
    said = capsys.readouterr().out
    assert "on 2 exposures" in said
    assert said.count("nJy above 2016") == 2
    for name in ("noise", "difference", "cutouts", "modes"):
        assert (tmp_path / f"{name}.png").stat().st_size > 20_000
