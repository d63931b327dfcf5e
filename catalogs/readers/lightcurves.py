"""Folders of text files with one light curve each, such as those of OGLE, ASAS-SN and KMTNet.

A folder is one source; its pieces are runs of files, and its chunks hold rows of many files. What the files
look like tells :class:`~skytrawl.catalogs.surveys.files.Files`, from the description of the survey; without
one, files with a header line and files of bare numbers are both read, the columns of the latter by number.

Columns that no file has, but its place: ``{stem}``, ``{parent}``, the groups of ``path``; ``object`` and
``band`` where the form tells them; ``upper_limit`` where numbers may be marked.

A file of a folder that cannot be read at all counts as one row, dropped, under its name. A file that is given
by itself raises.
"""

import gzip
import importlib.util
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from skytrawl.catalogs.readers.curve_batches import Batch, Reading
from skytrawl.catalogs.readers.curve_parts import Fault, Part, column_names
from skytrawl.catalogs.readers.listing import first_file, pack, unpack, walk
from skytrawl.catalogs.readers.table import Chunk, Header, Kinds, Options, Piece
from skytrawl.catalogs.surveys.files import Files
from skytrawl.errors import IngestError

# Bytes of a row of text, about; of a gzipped one.
_ROW_BYTES, _GZIP_ROW_BYTES = 32, 10
# Bytes read at once: files of this class are small, others come in several parts.
_BLOCK = 1 << 22
_BOM = b"\xef\xbb\xbf"


def form_of(source: Path, options: Options) -> Files | None:
    """The first form of the survey that a file, or some file below a folder, has."""
    if source.is_dir():
        return next((form for form in options.files if _first(source, form) is not None), None)
    return next((form for form in options.files if form.takes(source.name)), None)


def expand(folder: Path, options: Options) -> list[Path] | None:
    """The folder itself, if it holds files of a form of the survey; None otherwise."""
    return None if form_of(folder, options) is None else [folder]


def takes(source: Path, options: Options) -> bool:
    """Whether a file, or some file below a folder, is of a form of the survey."""
    return form_of(source, options) is not None


def header(source: Path, options: Options) -> Header:
    """Columns of the first file that can be read, and those that its place gives.

    Raises
    ------
    IngestError
        If there is none.
    """
    form = _form(source, options)
    first = source / (_first(source, form) or "") if source.is_dir() else source
    changed = (source.stat().st_mtime_ns, os.path.exists(first) and os.stat(first).st_mtime_ns)
    return Header(_columns(source, form, options.encoding, changed))


@lru_cache(maxsize=64)
def _columns(source: Path, form: Files, encoding: str, changed: tuple[int, int]) -> tuple[str, ...]:
    alone = not source.is_dir()
    first = ""
    for name, _ in [(source.name, 0)] if alone else walk(source, form, Counter()):
        file = os.path.join(source.parent if alone else source, name)
        try:
            return column_names(next(_parts(file, name, form, encoding)), form)
        except Fault as fault:
            first = first or f"{file}: {fault}"
    kinds = ", ".join(form.suffixes) or "any name"
    raise IngestError(f"{first or f'{source} holds no file of light curves ({kinds})'}: repair or remove it")


def pieces(source: Path, options: Options) -> list[Piece]:
    """Runs of files of about ``options.piece_rows`` rows; `part` is their number and their packed names."""
    if not source.is_dir():
        return [Piece(source, nbytes=source.stat().st_size)]
    form = _form(source, options)
    others: Counter[str] = Counter()
    found: list[Piece] = []
    names: list[str] = []
    rows = nbytes = 0
    for name, size in walk(source, form, others):
        more = size // (_GZIP_ROW_BYTES if name.lower().endswith(".gz") else _ROW_BYTES) + 1
        if names and rows + more > options.piece_rows:
            found.append(Piece(source, (len(names), pack(names)), nbytes=nbytes))
            names, rows, nbytes = [], 0, 0
        names.append(name)
        rows, nbytes = rows + more, nbytes + size
    passed = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in sorted(others.items()))
    found.append(Piece(source, (len(names), pack(names), passed), nbytes=nbytes))
    return found


def chunks(piece: Piece, kinds: Kinds, options: Options) -> Iterator[Chunk]:
    """Rows of whole files, and of parts of long ones, in chunks of about ``options.chunk_rows`` rows.

    Raises
    ------
    IngestError
        If a file that was given by itself cannot be read.
    """
    source: Path = piece.source
    form = _form(source, options)
    alone = not source.is_dir()
    folder = str(source.parent if alone else source)
    lean = options.use_pyarrow is False or importlib.util.find_spec("pyarrow") is None
    reading = Reading(source, alone, kinds, form, options.chunk_rows, lean, bool(options.time_format))
    batch = Batch(reading, piece.first_row)
    passed = str(piece.part[2]) if len(piece.part) > 2 else ""
    for name in unpack(str(piece.part[1])) if piece.part else [source.name]:
        file = os.path.join(folder, name)
        try:
            for part in _parts(file, name, form, options.encoding):
                yield from batch.add(part)
        except Fault as fault:
            yield from batch.refuse(name, str(fault))
    for chunk in batch.rest():
        if passed:
            chunk.notes[f"files with other ends of their names are passed over ({passed})"] = 0
            passed = ""
        yield chunk


def _form(source: Path, options: Options) -> Files:
    form = form_of(source, options) or Files()
    if options.delimiter is not None:
        form = Files(**{**vars(form), "delimiter": options.delimiter})
    return form


def _first(folder: Path, form: Files) -> str | None:
    try:
        return _first_at(folder, form, folder.stat().st_mtime_ns)
    except LookupError:
        return None


@lru_cache(maxsize=64)
def _first_at(folder: Path, form: Files, changed: int) -> str:
    name = first_file(folder, form)
    if name is None:  # raised, because what is raised is not remembered
        raise LookupError(folder)
    return name


def _parts(file: str, name: str, form: Files, encoding: str) -> Iterator[Part]:
    """The text of a file in parts that end with a line, each with what stood above the rows."""
    part = None
    for text in _blocks(file, encoding):
        part = Part.of(text, name, 1 if part is None else part.end, form, part)
        yield part
    if part is None:
        raise Fault("it is empty")


def _blocks(file: str, encoding: str) -> Iterator[bytes]:
    """UTF-8 lines of a file, unpacked, with line feeds at their ends."""
    utf8 = encoding.lower() in ("utf-8", "utf8")
    size = _BLOCK if utf8 else -1  # what a line end is, in other encodings, is seen after decoding
    try:
        with gzip.open(file) if file.lower().endswith(".gz") else open(file, "rb", 0) as opened:
            text = opened.read(size)
            while text and (more := opened.read(size)):
                cut = text.rfind(b"\n") + 1
                if cut:
                    yield _lines(text[:cut], encoding)
                text = text[cut:] + more
            if text:
                yield _lines(text, encoding)
    except (OSError, EOFError, zlib.error) as error:
        raise Fault(f"it cannot be read ({error})") from None


def _lines(text: bytes, encoding: str) -> bytes:
    if encoding.lower() not in ("utf-8", "utf8"):
        try:
            text = text.decode(encoding).encode()
        except UnicodeDecodeError as error:
            raise Fault(f"byte 0x{text[error.start]:02x} is no {encoding} text") from None
        except LookupError:
            raise IngestError(f"Python knows no encoding {encoding!r}") from None
    text = text.removeprefix(_BOM)
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return text if text.endswith(b"\n") else text + b"\n"
