"""The rows of a CSV file: where its header is, what separates its values, and blocks that end where a row does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fullbatch.errors import TableError
from fullbatch.machine.threads import Helpers

SEPARATORS = ",;\t|"
CSV_BLOCK = 1 << 20  # bytes that are read at a time
LONGEST_ROW = 1 << 26  # A row, or the header, may be longer than a block, but not longer than this.

_SAMPLE = 1 << 16  # bytes in which header and separator are looked for
_QUOTED = re.compile(rb'"(?:[^"]|"")*"')
_TOLD = re.compile(rb'"?sep=([\t !#-/:-@\[-^`{-~])"?[\r\n]')
_NUMBER = re.compile(rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|NA|NaN|nan|[?.]")  # or a word for a missing one
_MARGINS, _MARKED = re.compile(rb"^[ \t]+|[ \t]+(?=\r?$)", re.MULTILINE), re.compile(rb"^#[ \t]+", re.MULTILINE)
_BLANKS, _BLANKS_OR_TEXT = re.compile(rb"[ \t]+"), re.compile(rb'("[^"\n]*")|[ \t]+')
_NUMBER_OR_DATE = re.compile(rb"[-+]?\d[\d.,:/ TZ+-]*(?:[eE][-+]?\d+)?")


# Of rows that blanks separate: a name for each value, or for all but the first.
EVEN, SHORT_HEADER = "even", "short header"


class Rows:
    """The rows of one CSV file: ``header`` (its bytes), ``delimiter``, and ``blocks()`` of what comes after it.

    Where runs of blanks separate the values, as in tables of fixed width, both have a tab in place of each run.
    """

    def __init__(self, path: Path, compression: str | None) -> None:
        self.path = path
        self.compression = compression
        with self._open() as stream:
            start = stream.read(4096)
            if b"\0" in start:
                raise TableError("not a CSV file: it holds binary data, or text that is not UTF-8.")
            start += stream.read(_SAMPLE)
            while len(start) <= LONGEST_ROW and start.count(b"\n") < 2 and (more := stream.read(len(start))):
                start += more
        self.bom = 3 if start.startswith(b"\xef\xbb\xbf") else 0
        start = start[self.bom :]
        self.blanks = _separated_by_blanks(start)
        text = _with_tabs(start) if self.blanks else start
        self.delimiter, first, self.end = _header(text)
        self.header = text[first : self.end]
        if self.blanks:
            lines = text[: self.end].count(b"\n")
            self.end = sum(map(len, start.split(b"\n")[:lines])) + lines
            if self.blanks == SHORT_HEADER:
                self.header = b'""\t' + self.header
        self.end += self.bom

    def blocks(self) -> Iterator[bytes]:
        """All rows, in blocks of about CSV_BLOCK bytes. TableError where a row does not end."""
        return map(_with_tabs, self._blocks()) if self.blanks else self._blocks()

    def _blocks(self) -> Iterator[bytes]:
        with self._open() as stream:
            skip, rest = self.end, b""
            for part in _ahead(stream):
                if skip:
                    skip, part = max(skip - len(part), 0), part[skip:]
                quoted = b'"' in rest or b'"' in part
                end = _row_end(rest + part, self.delimiter) - len(rest) if quoted else part.rfind(b"\n") + 1
                if end > 0:
                    yield b"".join((rest, memoryview(part)[:end]))
                    rest = part[end:]
                    continue
                rest += part
                end = _row_end(rest, self.delimiter)
                if end:
                    yield rest[:end]
                    rest = rest[end:]
                elif len(rest) > LONGEST_ROW:
                    raise TableError(f"a row is longer than {LONGEST_ROW} bytes; is a quote not closed?")
            if len(rest) > CSV_BLOCK and rest.count(b'"') % 2:
                raise TableError(f"its last row is longer than {CSV_BLOCK} bytes; is a quote not closed?")
            if rest:
                yield rest

    def check(self) -> None:
        """Raise Arrow's error where compressed data are damaged: what else is wrong with the rows comes from that."""
        if self.compression is not None:
            with self._open() as stream:
                while stream.read(CSV_BLOCK):
                    pass

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with pa.input_stream(str(self.path), compression=self.compression) as stream:
            yield stream


def _ahead(stream: Any) -> Iterator[bytes]:
    """The stream in parts; a thread reads, and decompresses, the next one while this one is worked on."""
    helpers, wait = Helpers(1, "fullbatch-read"), True
    following = helpers.submit(stream.read, CSV_BLOCK)
    try:
        while part := following.result():
            following = helpers.submit(stream.read, CSV_BLOCK)
            yield part
    except GeneratorExit:
        # Nobody reads on. That may be found by the garbage collector, in any thread: also in one that is starting and
        # so holds, before Python 3.13, a lock that joining a thread takes. So only the reading is waited for, as the
        # caller closes the stream, and not the thread, which then ends by itself.
        following.exception()
        wait = False
        raise
    finally:
        helpers.close(wait=wait)


# ---- where rows end ------------------------------------------------------------------------------


def quotes(data: bytes, delimiter: str) -> tuple[np.ndarray, np.ndarray]:
    """Where quoted values begin, and where they end: positions in ``data``, which begins where a row does.

    A quote is one only where a value begins, as Arrow has it; that in ``5" pipe`` is a character as any other. The last
    value may begin and not end.
    """
    if b'"' not in data:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    bytes_ = np.frombuffer(data, np.uint8)
    marks = np.flatnonzero(bytes_ == ord('"'))
    opens, closes = marks[::2], marks[1::2]
    before = bytes_[opens - 1]  # Two quotes within a value are one: it ends there, and begins again.
    regular = (before == ord(delimiter)) | (before == ord("\n")) | (before == ord("\r")) | (before == ord('"'))
    if regular.all() or (regular[1:].all() and opens[0] == 0):
        return opens, closes
    return _quotes_one_by_one(data, marks.tolist(), delimiter)


def _quotes_one_by_one(data: bytes, marks: list[int], delimiter: str) -> tuple[np.ndarray, np.ndarray]:
    """The same where some quotes are characters as any other, which only those before them can tell."""
    opens: list[int] = []
    closes: list[int] = []
    starts = {ord(delimiter), ord("\n"), ord("\r")}
    for mark in marks:
        if len(opens) > len(closes):
            closes.append(mark)
        elif mark == 0 or data[mark - 1] in starts or (closes and closes[-1] == mark - 1):
            opens.append(mark)
    return np.array(opens, np.intp), np.array(closes, np.intp)


def _row_end(data: bytes, delimiter: str) -> int:
    """So many bytes of ``data`` are whole rows: up to the last line end that is not within quotes."""
    line_end = b"\n" if b"\n" in data else b"\r"
    opens, closes = quotes(data, delimiter)
    # A carriage return at the very end may be half of a line end.
    end = int(opens[-1]) if len(opens) > len(closes) else len(data) - (line_end == b"\r")
    while True:
        last = data.rfind(line_end, 0, end)
        k = int(np.searchsorted(opens, last)) - 1
        if last < 0 or k < 0 or closes[k] < last:
            return last + 1
        end = int(opens[k])


# ---- values that blanks separate -----------------------------------------------------------------


def _separated_by_blanks(start: bytes) -> str:
    """Whether runs of blanks separate the values in the first bytes of a file: EVEN, SHORT_HEADER, or "" for no.

    All lines have as many values so, one column at least holds numbers, and no other separator does as well. A header
    may lack the name of the first column: those of rows, as R writes them.
    """
    lines = [line for line in _QUOTED.sub(b"_", start).replace(b"\r\n", b"\n").split(b"\n") if line.strip()]
    lines = lines[: -1 if len(lines) > 2 and not start.endswith(b"\n") else None][:200]
    while len(lines) > 1 and lines[0].startswith(b"#") and lines[1].startswith(b"#"):
        lines.pop(0)
    if len(lines) < 2 or b"\r" in start.replace(b"\r\n", b"") or any(mark in lines[0] for mark in b",;|"):
        return ""
    names, *rows = [line.removeprefix(b"#").split() for line in lines]
    widths = {len(row) for row in rows}
    if len(widths) > 1 or min(len(names), *widths) < 2 or len(names) not in (len(rows[0]), len(rows[0]) - 1):
        return ""
    if b"\t" in lines[0] and not all(line[:1] == b" " or b"  " in line for line in lines):
        return ""  # Tabs do it, between texts that may have blanks.
    numbers = [all(map(_NUMBER.fullmatch, column)) for column in zip(*rows, strict=True)]
    if not any(numbers) or (len(numbers) == 2 and not all(numbers)):
        return ""  # A single column of short texts has as many words in each row too.
    return EVEN if len(names) == len(numbers) else SHORT_HEADER


def _with_tabs(rows: bytes) -> bytes:
    """These rows with a tab in place of each run of blanks that is not within quotes, and none at their ends."""
    rows = _MARKED.sub(b"#", _MARGINS.sub(b"", rows))
    return _BLANKS_OR_TEXT.sub(lambda found: found[1] or b"\t", rows) if b'"' in rows else _BLANKS.sub(b"\t", rows)


# ---- where the header is -------------------------------------------------------------------------


def _header(start: bytes) -> tuple[str, int, int]:
    """The separator, and where the header begins and ends in the first bytes of a file.

    The separator is the one with the most values in the header, quoted ones left out. Lines above the header are
    comments, which begin with "#", or titles: lines of a single value above a header whose names stand over columns of
    numbers or dates, all rows having as many values as it. A first line "sep=;", by which Excel is told the separator,
    tells it here too.
    """
    masked = _QUOTED.sub(lambda quoted: b"_" * len(quoted[0]), start)
    open_quote = masked.find(b'"')
    if open_quote >= 0 and b"\n" in masked[:open_quote]:
        masked = masked[:open_quote]
    line_end = rb"[^\n]*\n?" if b"\n" in masked else rb"[^\r]*\r?"
    lines = [(m.start(), m.end()) for m in re.finditer(line_end, masked) if m[0].strip(b"\r\n")]
    if not lines:
        raise TableError("it has no rows; expected a header and at least one row.")
    if len(lines) > 2 and not masked.endswith((b"\n", b"\r")):
        lines.pop()  # It may go on behind the sample.
    lines = lines[:200]
    told = _TOLD.match(start)
    if told and len(lines) > 1:
        lines = lines[1:]
    comments = 0
    while comments < len(lines) - 1 and masked[lines[comments][0] :].startswith(b"#"):
        comments += 1
    best: tuple[bool, int, int] | None = None
    for delimiter in told[1].decode() if told else SEPARATORS:
        values = [masked.count(delimiter.encode(), *line) + 1 for line in lines]
        at = _header_line(start, lines, values, comments, delimiter)
        even = values[at] > 1 and all(count == values[at] for count in values[at + 1 :])
        key = (even, -at, values[at])
        if best is None or key > best:
            best, chosen, header = key, delimiter, lines[at]
    return chosen, *header


def _header_line(start: bytes, lines: list[tuple[int, int]], values: list[int], comments: int, delimiter: str) -> int:
    """Which of the lines is the header, if this is the separator."""
    if comments and values[comments - 1] == values[comments] > 1:
        return comments - 1  # "#chromosome,position" above its rows: the last line with the mark is the header.
    if comments and values[comments] == 1 and _NUMBER_OR_DATE.fullmatch(start[slice(*lines[comments])].strip()):
        return comments - 1
    at = comments
    while at < len(lines) and values[at] == 1:
        at += 1
    if at == comments or at >= len(lines) - 1 or any(count != values[at] for count in values[at:]):
        return comments
    rows = [[cell.strip(b' "\r\n') for cell in start[i:j].split(delimiter.encode())] for i, j in lines[at:]]
    for name, *cells in zip(*rows, strict=False):
        if not _NUMBER_OR_DATE.fullmatch(name) and all(_NUMBER_OR_DATE.fullmatch(cell) for cell in cells if cell):
            return at
    return comments
