"""Simulated exposures of real surveys, injection into real or simulated ones, and how much of it is found."""

from skytrawl.catalogs.simulate_images.simulate import SimulatedImages, simulate_exposures
from skytrawl.catalogs.simulate_images.surveys import KINDS

__all__ = ["KINDS", "SimulatedImages", "simulate_exposures"]
