"""Ingest of any size: tables of light curves into an archive, out of core, restartable, appendable."""
