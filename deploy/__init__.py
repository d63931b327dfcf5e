"""Clusters: where the workers come from."""
