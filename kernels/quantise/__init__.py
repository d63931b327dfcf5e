"""Pixels as integers at a fraction of the noise."""
