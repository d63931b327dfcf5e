"""Sources drawn into pixels."""
