"""Point spread functions that vary over the field."""

from skytrawl.kernels.psf.model import PsfModel, n_terms, polynomial_terms, term_degrees

__all__ = ["PsfModel", "n_terms", "polynomial_terms", "term_degrees"]
