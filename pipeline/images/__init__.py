"""Jobs over images."""
