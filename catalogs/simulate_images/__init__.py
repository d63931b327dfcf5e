"""Simulated exposures of real surveys, injection into real or simulated ones, and how much of it is found."""

from skytrawl.catalogs.simulate_images.completeness import completeness
from skytrawl.catalogs.simulate_images.inject import flux_at_snr, inject
from skytrawl.catalogs.simulate_images.plan import InjectionPlan, inject_frame
from skytrawl.catalogs.simulate_images.simulate import SimulatedImages, simulate_exposures
from skytrawl.catalogs.simulate_images.surveys import KINDS
from skytrawl.catalogs.simulate_images.truth import read_truth

__all__ = [
    "KINDS",
    "InjectionPlan",
    "SimulatedImages",
    "completeness",
    "flux_at_snr",
    "inject",
    "inject_frame",
    "read_truth",
    "simulate_exposures",
]
