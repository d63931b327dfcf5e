"""Surveys and files: schema, archive, ingest, results and queries."""
