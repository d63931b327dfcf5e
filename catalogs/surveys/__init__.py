"""Survey descriptions, one TOML file each."""
