"""Candidates in difference images."""
