"""The house rules that a machine can check: rooms, packaging, import cost."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {"skytrawl.kernels": "kernels", "skytrawl.catalogs": "catalogs", "skytrawl.deploy": "deploy"}

# Which rooms a room may import from; everybody may use skytrawl.errors.
MAY_IMPORT = {
    "kernels": set(),
    "catalogs": {"kernels"},
    "deploy": set(),
    "pipeline": {"kernels", "catalogs", "deploy"},
}
# Third-party packages that a room must not import anywhere, not even lazily.
FORBIDDEN = {
    "kernels": {"dask", "distributed", "xarray", "zarr", "astropy", "pandas"},
    "catalogs": {"distributed", "numba", "cupy", "torch"},
    "pipeline": {"numba", "cupy", "torch"},
    "deploy": {"numba", "cupy", "torch", "zarr", "xarray"},
}


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full dotted names that a file imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(module: str) -> str | None:
    if not (module == "skytrawl" or module.startswith("skytrawl.")):
        return None
    for package, room in ROOMS.items():
        if module == package or module.startswith(package + "."):
            return room
    return "pipeline"


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_imports_run_one_way(room: str) -> None:
    assert sources(room), f"no sources in {room}"
    for path in sources(room):
        for module in imported(path):
            assert module.split(".")[0] not in FORBIDDEN[room], f"{path} imports {module}"
            target = room_of(module)
            if target in (None, room) or module.startswith("skytrawl.errors") or module == "skytrawl":
                continue
            if module == "skytrawl.__version__":
                continue
            assert target in MAY_IMPORT[room], f"{path} ({room}) imports {module} ({target})"


def test_every_package_ships() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = set()
    for package, folder in settings["package-dir"].items():
        base = ROOT / folder
        for init in base.rglob("__init__.py"):
            found.add(".".join([package, *init.parent.relative_to(base).parts]))
    assert found == set(settings["packages"])


def test_files_stay_readable() -> None:
    for room in [*MAY_IMPORT, "tests"]:
        for path in sources(room):
            lines = len(path.read_text().splitlines())
            assert lines <= 500, f"{path} has {lines} lines"


def test_second_copy_is_refused() -> None:
    code = "import pipeline"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "skytrawl" in done.stderr


HEAVY = ["dask", "distributed", "numba", "torch", "cupy", "xarray", "zarr", "astropy", "pandas", "pyarrow"]


@pytest.mark.parametrize("code", ["import skytrawl", "import skytrawl.cli", "import skytrawl.kernels.dmdt"])
def test_imports_stay_light(code: str) -> None:
    probe = f"{code}; import sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_loads_nothing_heavy() -> None:
    probe = (
        "import sys; from click.testing import CliRunner; from skytrawl.cli import main\n"
        "for words in ([], ['run'], ['query'], ['ingest'], ['plan']):\n"
        "    r = CliRunner().invoke(main, [*words, '--help']); assert r.exit_code == 0, r.output\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
