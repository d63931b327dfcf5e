"""Exposures that are made up, with their truth."""
