"""Kernels: arrays and mathematics, nothing of Dask, xarray, Zarr or files."""
