"""Readers: each yields tables of one declared form from one kind of source."""
