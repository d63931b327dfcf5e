"""skytrawl: find what is odd in a whole sky survey."""

from importlib import import_module
from typing import Any

if __name__ != "skytrawl":
    raise ImportError(
        f"this package is 'skytrawl', not {__name__!r}: run Python outside the repository root, "
        "or install it with `pip install -e .` and `import skytrawl`"
    )

__version__ = "0.1.0"

# Public names and the modules they live in; loaded at first use, so that `import skytrawl` stays light.
_PUBLIC = {
    "open_archive": "skytrawl.catalogs.archive",
    "open_results": "skytrawl.catalogs.results",
    "open_images": "skytrawl.catalogs.images.view",
    "open_candidates": "skytrawl.catalogs.images.candidates",
    "find_candidates": "skytrawl.image_candidates",
    "image_report": "skytrawl.image_reports",
    "append": "skytrawl.intake.driver",
    "ingest": "skytrawl.intake.driver",
    "ingest_images": "skytrawl.images.ingest",
    "read_exposures": "skytrawl.catalogs.images.exposure",
    "export": "skytrawl.catalogs.export_store",
    "export_images": "skytrawl.catalogs.images.export",
    "CutoutDataset": "skytrawl.catalogs.images.dataset",
    "validate": "skytrawl.catalogs.validate",
    "run": "skytrawl.runner",
    "lazy": "skytrawl.graph",
    "plan": "skytrawl.planner",
    "fit_light_curve": "skytrawl.scan_curve",
    "scan_light_curve": "skytrawl.scan_curve",
    "scan_template_free_light_curve": "skytrawl.scan_curve",
    "plot_scan": "skytrawl.scan_store",
    "plot_difference": "skytrawl.figures_images",
    "plot_modes": "skytrawl.figures_images",
    "plot_cutouts": "skytrawl.figures_cutouts",
    "plot_noise": "skytrawl.figures_noise",
    "plot_completeness": "skytrawl.figures_noise",
    "report_of_object": "skytrawl.scan_store",
    "SkytrawlError": "skytrawl.errors",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'skytrawl' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
