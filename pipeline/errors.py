"""The exceptions of skytrawl: one base class, children that are also the fitting builtin."""


class SkytrawlError(Exception):
    """Base of every error that skytrawl raises on purpose."""

    def __str__(self) -> str:
        # KeyError would show the repr of its message, with the quotes.
        return str(self.args[0]) if self.args else ""


class SchemaError(SkytrawlError, ValueError):
    """Arrays that do not match the schema; lists every fault with its path."""


class ArchiveError(SkytrawlError, ValueError):
    """An archive or results store that cannot be used as asked."""


class NotAnArchiveError(ArchiveError):
    """A path that holds no skytrawl store of the expected kind."""


class ArchiveMismatchError(ArchiveError):
    """A results store that belongs to another archive."""


class CorruptShardError(SkytrawlError, OSError):
    """A shard that is missing, empty or fails its checksum; names variable, partition and slot."""


class VersionConflictError(SkytrawlError, FileExistsError):
    """Another writer has published the version first."""


class IngestError(SkytrawlError, ValueError):
    """Input that cannot be ingested; names file, row and remedy."""


class ImageError(SkytrawlError, ValueError):
    """An image that cannot be used as asked: no WCS, no overlap, nothing measured; names the reason."""


class ParameterError(SkytrawlError, ValueError):
    """A parameter with a wrong name or value."""


class ParametersChangedError(ParameterError):
    """A run that would continue another run with different parameters; names the difference."""


class PlanRefusedError(SkytrawlError, MemoryError):
    """A plan that does not fit the workers."""


class PreflightError(SkytrawlError, RuntimeError):
    """Work that no worker could ever take."""


class BackendUnavailableError(SkytrawlError, ImportError):
    """A compute backend that this machine lacks; names the remedy."""


class ReferenceMismatchError(SkytrawlError, ValueError):
    """A reference made from another survey, band set or photometry kind than the data."""


class ReferenceExistsError(SkytrawlError, FileExistsError):
    """A reference that would be overwritten."""


class ObjectNotFoundError(SkytrawlError, KeyError):
    """An object id that the store does not hold."""


class NoPositionsError(SkytrawlError, ValueError):
    """A question about sky positions to a store without positions."""
