"""Header maps of surveys."""
