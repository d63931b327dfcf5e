"""Real light curves and images that come with the package; SOURCES.md states origin, licence and citation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from skytrawl.catalogs.samples.decam import Exposures, decam_exposures
from skytrawl.catalogs.samples.demo import Demo, demo_sources
from skytrawl.catalogs.samples.microlensing import Microlensing, microlensing_events
from skytrawl.errors import ParameterError

__all__ = [
    "Demo",
    "Exposures",
    "Microlensing",
    "Sample",
    "decam_exposures",
    "demo_sources",
    "list_samples",
    "microlensing_events",
    "sample",
    "sample_path",
]


def _path(file: str) -> Path:
    # Packages that hold data files are never run from inside a zip archive.
    return Path(str(resources.files("skytrawl.catalogs.samples").joinpath(file)))


@dataclass(frozen=True)
class Sample:
    """A file of the package that can be ingested as it is.

    Attributes
    ----------
    name, title : str
    file : str
        In this folder.
    options : mapping
        Keyword arguments of :func:`skytrawl.ingest`: survey, columns and what else it needs.
    objects : str
        File with classes or positions, in this folder; "" where there is none.
    """

    name: str
    title: str
    file: str
    options: Mapping[str, Any] = field(default_factory=dict)
    objects: str = ""

    @property
    def path(self) -> Path:
        """The file."""
        return _path(self.file)

    def ingest_options(self) -> dict[str, Any]:
        """Keyword arguments for ingest, the table of objects included."""
        return dict(self.options) | ({"objects": _path(self.objects)} if self.objects else {})


_ZTF_DR = {"survey": "ztf", "photometry": "total"}
_SAMPLES = {
    sample.name: sample
    for sample in (
        Sample(
            "ztf_bts_snia",
            "1500 type Ia supernovae of the ZTF Bright Transient Survey",
            "ztf_bts_snia.csv.gz",
            {"survey": "ztf", "columns": {"class": "SN Ia"}},
        ),
        Sample(
            "sdss_s82_rrlyrae",
            "150 RR Lyrae stars of SDSS Stripe 82",
            "sdss_s82_rrlyrae.csv.gz",
            {"survey": "sdss"},
            "sdss_s82_rrlyrae_objects.csv.gz",
        ),
        Sample(
            "ztf_alert_histories",
            "209 ZTF objects with positions, signs and real-bogus scores",
            "ztf_alert_histories.csv.gz",
            {"survey": "ztf"},
        ),
        Sample(
            "snad_rare_events",
            "a kilonova and five microlensing events",
            "snad_rare_events.csv.gz",
            # Gaia publishes no errors of Gaia16aye: they stand as 0.
            {"survey": "ztf", "photometry": "total", "missing_errors": "keep"},
        ),
        Sample(
            "ogle_lmc_cep_0227",
            "an eclipsing Cepheid in V",
            "ogle_lmc_cep_0227.csv.gz",
            {
                "survey": "ogle",
                "columns": {"object": "OGLE-LMC-CEP-0227", "band": "V"},
                "time_format": "jd-2450000",
            },
        ),
        Sample(
            "ztf_dr_640202200001881",
            "a light curve of a ZTF data release",
            "ztf_dr_640202200001881.csv.gz",
            _ZTF_DR | {"columns": {"object": "640202200001881"}},
        ),
        Sample(
            "ztf_dr_742201400001054",
            "a light curve of a ZTF data release",
            "ztf_dr_742201400001054.csv.gz",
            _ZTF_DR | {"columns": {"object": "742201400001054"}},
        ),
        Sample(
            "antares_locus_ANT202037lq",
            "an ANTARES locus with 3552 detections and 407 upper limits",
            "antares_locus_ANT202037lq.csv.gz",
            {"survey": "ztf"},
        ),
        # Both together, in one unit of flux: microlensing_events().
        Sample(
            "microlensing_magnitudes",
            "six microlensing events of OGLE, KMTNet and a simulation, in magnitudes",
            "microlensing_magnitudes.csv.gz",
            {"survey": _path("microlensing.toml"), "quantity": "magnitude", "units": "mag"},
        ),
        Sample(
            "microlensing_fluxes",
            "a microlensing event of MOA and a simulated one of Roman, in fluxes",
            "microlensing_fluxes.csv.gz",
            {
                "survey": _path("microlensing.toml"),
                "columns": {"value": "flux", "error": "flux_err"},
            },
        ),
    )
}


def list_samples() -> list[str]:
    """Names of the samples."""
    return list(_SAMPLES)


def sample(name: str) -> Sample:
    """A sample by name.

    Raises
    ------
    ParameterError
        If there is none of that name.

    Examples
    --------
    >>> from skytrawl.intake.driver import ingest
    >>> rrlyrae = sample("sdss_s82_rrlyrae")
    >>> report = ingest(rrlyrae.path, "rrlyrae.zarr", **rrlyrae.ingest_options())  # doctest: +SKIP
    """
    if name not in _SAMPLES:
        raise ParameterError(f"no sample {name!r}: take one of {', '.join(_SAMPLES)}")
    return _SAMPLES[name]


def sample_path(name: str) -> Path:
    """The file of a sample."""
    return sample(name).path
