"""The engine for jobs over frames."""
