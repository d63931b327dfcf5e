"""Single-lens fits: batched PSPL by variable projection, and finite source and parallax on demand."""
