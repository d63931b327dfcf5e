"""Every Python block of the documentation runs, and every path that it names exists."""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [body for name, body in FENCE.findall(page.read_text()) if name == language]


# lsdb and its packages use what pandas is about to drop; a join by id needs no margin cache.
@pytest.mark.filterwarnings(
    "ignore:The 'mode.chained_assignment'",
    "ignore:The inplace keyword in NestedFrame",
    "ignore:Right catalog does not have a margin cache",
)
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of one page run in order, in one namespace and an empty folder, as a reader would."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "docs"}
    for number, body in enumerate(blocks(page, "python"), start=1):
        code = compile(body, f"{page.name}[python block {number}]", "exec")
        exec(code, namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_named_paths_exist(page: Path) -> None:
    rooms = "pipeline|kernels|catalogs|deploy|tests|docs"
    for name in re.findall(rf"`((?:{rooms})/[\w./-]+)`", page.read_text()):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_ten_questions_are_answered() -> None:
    page = ROOT / "docs" / "how-do-i.md"
    questions = re.findall(r"^## (.+\?)$", page.read_text(), re.MULTILINE)
    assert len(questions) >= 10
    assert len(blocks(page, "python")) >= 10


def test_repository_names_no_machine() -> None:
    home = os.path.expanduser("~")
    for page in PAGES:
        assert home + "/" not in page.read_text()
