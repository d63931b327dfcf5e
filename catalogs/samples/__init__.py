"""Small samples of real survey data that ship with the package; see SOURCES.md."""
