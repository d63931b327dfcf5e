"""Rows of light curves into order: buckets along the sky, groups by object, band and time."""
