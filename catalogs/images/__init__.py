"""Images in the archive: frames, their planes and their table."""
