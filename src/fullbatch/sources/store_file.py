"""The file of a store, an encoded table on the disk: Arrow IPC, uncompressed, whose record batches are leaves.

    numbers   FixedSizeList<float32|64>[k]     what EncodedTable has as numbers, row-major
    codes     FixedSizeList<uint8|16|32>[c]    what it has as ones; only where there are categories
    y         the class's position, in the smallest unsigned type; of a regression the scaled target
    weight    float32|64; only where rows have weights

The rows to learn from come first, then the held-out ones, in leaves of their own. All leaves of a part but its last
have the same number of rows. The schema's metadata holds the rest as JSON, under "fullbatch-store"; the metadata of a
record batch holds the CRC-32 of its leaf: of the bytes of its columns, one after another.

Rows are read with pread into buffers that each reader owns, a block at a time, which stay in the core's cache. To copy
them takes an eighth of a full batch of 28-64-1, so the native step looks at numbers where they lie (in_place.py), in
mappings that outlive a file that is cut short (machine/mappings.py).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
import weakref
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fullbatch.errors import StoreError
from fullbatch.machine import mappings, memory
from fullbatch.machine.plain_values import from_json, is_count, listed, require
from fullbatch.machine.read_ahead import ReadAhead
from fullbatch.machine.safe_output import open_regular

KEY = b"fullbatch-store"
CHECKSUM = b"crc32"
TASKS = ("classify", "regress")
PARTS = ("train", "held_out")  # in the order of their leaves
FORMAT_VERSION = 2  # in 1 no column had bins; raised as saving/model_file.py says
FIELDS = ("numbers", "codes", "y", "weight")  # in the order in which they lie in a leaf
MAPPED = 2**25  # bytes that a thread maps at a time of a file that does not stay mapped
AT_ONCE = 2**18  # bytes that are read at a time where a whole leaf is checked: they stay in the core's cache
COMPARED = 64  # leaves that may be compared with their checksums at a time


class Leaf(NamedTuple):
    """Where a leaf lies: so many rows, and the byte at which each field begins, in the order of FIELDS."""

    rows: int
    offsets: Mapping[str, int]
    checksum: int


def sealed(content: Mapping[str, Any]) -> bytes:
    """The content as JSON, with a checksum of itself."""
    return json.dumps({**content, "sha256": _digest(content)}, allow_nan=False).encode()


def _digest(content: Mapping[str, Any]) -> str:
    plain = {name: value for name, value in content.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


class StoreFile:
    """The open file, and where its leaves are. Several threads may read from it at once.

    content : what the metadata holds;  kinds : dtype and width of each field, a width of 0 for one value a row
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handle = _opened(path)
        self._close = weakref.finalize(self, os.close, self.handle)
        self.ahead = ReadAhead(self.handle)
        self.whole: mappings.Mapping | None = None  # of the whole file, once one is asked for
        try:
            self.content, self.kinds, self.leaves = _layout(path, os.fstat(self.handle).st_size)
        except BaseException:
            self.close()
            raise
        self.checked = bytearray(len(self.leaves))
        self.opening = threading.Lock()  # of a mapping
        self.process, self.comparing = os.getpid(), _locks()

    def close(self) -> None:
        self.ahead.close()
        self._close()
        self.whole = None

    def read(self, name: str, leaf: int, start: int, out: np.ndarray) -> None:
        """The rows of a leaf from ``start`` on, as many as ``out`` has, which is contiguous."""
        self._pread(out, self._offset(name, leaf, start))

    def mapping(self) -> tuple[mappings.Mapping | None, str]:
        """A mapping for a thread, in which blocks can be looked at; or None and why they are to be read.

        It is that of the whole file, for all threads, where there is one.
        """
        whole, why = self.whole_mapping()
        return (whole, why) if whole or why else mappings.mapping(self.handle, MAPPED + 2 * self.bytes_of(0))

    def whole_mapping(self) -> tuple[mappings.Mapping | None, str]:
        """A mapping of the whole file, where that takes no more than half of what is free; or None and why none may be.

        Its pages stay mapped from one full batch to the next, as the file's, which the system takes back when it needs
        memory.
        """
        self._check_open()
        with self.opening:
            if self.whole is None or mappings.why_not():
                size = os.fstat(self.handle).st_size
                if 2 * size > memory.free():
                    return None, ""
                self.whole, why = mappings.mapping(self.handle, size)
                return self.whole, why
            return self.whole, ""

    def look(self, mapping: mappings.Mapping, name: str, leaf: int) -> np.ndarray | None:
        """A field of a leaf's rows as it lies in a mapping; None where it is to be read.

        It is the file's if ``is_whole`` says so after the last look at it.
        """
        (dtype, width), offset = self.kinds[name], self._offset(name, leaf, 0)
        return mapping.look(self.handle, offset, (self.leaves[leaf].rows, *([width] if width else [])), dtype)

    def is_whole(self, mapping: mappings.Mapping) -> bool:
        """Whether all that was looked at in a mapping so far was in the file to the end."""
        return self._close.alive and mapping.is_whole(self.handle)

    def _offset(self, name: str, leaf: int, start: int) -> int:
        """Where a field of a leaf's row begins, of a leaf that is compared with its checksum first."""
        self._check_open()
        if not self.checked[leaf]:
            self._check(leaf)
        dtype, width = self.kinds[name]
        return self.leaves[leaf].offsets[name] + start * dtype.itemsize * max(width, 1)

    def expect(self, leaf: int) -> None:
        """Have this leaf, which comes soon, read and compared with its checksum while others are worked on."""
        if leaf < len(self.leaves) and self._close.alive:
            first, end = self._extent(leaf)
            then = None if self.checked[leaf] else partial(self._check_early, leaf)
            self.ahead.expect(first, end - first, then)

    def wait(self, leaf: int) -> None:
        """Come back when a leaf is there, if it is expected."""
        self.ahead.wait(self._extent(leaf)[0])

    def is_ready(self, leaf: int) -> bool:
        """Whether a leaf is compared with its checksum and in the system's cache: nobody would wait for it."""
        first, end = self._extent(leaf)
        return bool(self.checked[leaf]) and self._close.alive and self.ahead.is_there(first, end - first)

    def bytes_of(self, leaf: int) -> int:
        """How many bytes a leaf has."""
        return sum(size for _, size in self._spans(leaf))

    def _check_early(self, leaf: int) -> None:
        """The same before anybody asks for the leaf: whoever does is told what is wrong with it."""
        with suppress(StoreError):
            self._check(leaf, early=True)

    def _check(self, leaf: int, *, early: bool = False) -> None:
        """Compare a leaf with its checksum; StoreError, which names the leaf, where they differ.

        early : let it be if the file is to be closed meanwhile
        """
        if self.process != os.getpid():  # Of a fork's child: threads that held the locks are not in it.
            self.process, self.comparing = os.getpid(), _locks()
        with self.comparing[leaf % COMPARED]:  # Others wait who need the same leaf, and nobody else.
            if self.checked[leaf]:
                return
            found, buffer = 0, np.empty(AT_ONCE, np.uint8)
            for start, size in self._spans(leaf):
                for at in range(start, start + size, AT_ONCE):
                    if early and self.ahead.closed:
                        return
                    part = buffer[: min(AT_ONCE, start + size - at)]
                    self._pread(part, at)
                    found = zlib.crc32(part.data, found)
            if found != self.leaves[leaf].checksum:
                raise StoreError(
                    f"{self.path}: leaf {leaf} of {len(self.leaves)} is damaged: its checksum is {found:08x} and not "
                    f"{self.leaves[leaf].checksum:08x}; copy the store anew, or convert the table again."
                )
            self.checked[leaf] = 1

    def _extent(self, leaf: int) -> tuple[int, int]:
        """The bytes at which a leaf begins and ends."""
        spans = list(self._spans(leaf))
        return spans[0][0], sum(spans[-1])

    def _spans(self, leaf: int) -> Iterator[tuple[int, int]]:
        """Where each field of a leaf begins, and how many bytes it has."""
        rows, offsets, _ = self.leaves[leaf]
        for name, (dtype, width) in self.kinds.items():
            yield offsets[name], rows * dtype.itemsize * max(width, 1)

    def _pread(self, out: np.ndarray, offset: int) -> None:
        self._check_open()
        view = out.reshape(-1).data.cast("B") if out.size else memoryview(b"")
        while view:
            try:
                count = os.preadv(self.handle, [view], offset)
            except OSError as error:
                reason = error.strerror or error
                raise StoreError(f"the store {self.path} cannot be read at byte {offset}: {reason}.") from None
            if not count:
                raise StoreError(f"{self.path} was cut short while it was read: it ends at byte {offset}.")
            view, offset = view[count:], offset + count

    def _check_open(self) -> None:
        if not self._close.alive:
            raise StoreError(f"the store {self.path} is closed.")


def _locks() -> list[threading.Lock]:
    return [threading.Lock() for _ in range(COMPARED)]


def _opened(path: Path) -> int:
    try:
        handle = open_regular(path)
    except FileNotFoundError:
        raise StoreError(f"there is no store {path}.") from None
    except OSError as error:
        raise StoreError(f"the store {path} cannot be read: {error.strerror or error}.") from None
    try:
        size = os.fstat(handle).st_size
        start, end = os.pread(handle, 8, 0), os.pread(handle, 6, max(0, size - 6))
    except OSError as error:
        os.close(handle)
        raise StoreError(f"the store {path} cannot be read: {error.strerror or error}.") from None
    if not start.startswith(b"ARROW1"):
        os.close(handle)
        raise StoreError(f"{path} is no store; `fullbatch convert DATA --target COLUMN --out STORE` makes one.")
    if end != b"ARROW1":
        os.close(handle)
        raise StoreError(f"the store {path} is cut short: its end is missing; copy it anew, or convert again.")
    return handle


def _layout(path: Path, size: int) -> tuple[dict[str, Any], dict[str, tuple[np.dtype, int]], list[Leaf]]:
    """The content, the fields and the leaves, of a file that is mapped while Arrow looks at its footer."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as mapped:
            base = mapped.read_buffer().address
            mapped.seek(0)
            reader = pa.ipc.open_file(mapped)
            content = _content(path, reader.schema)
            kinds = _kinds(reader.schema)
            batches = map(reader.get_batch_with_custom_metadata, range(reader.num_record_batches))
            leaves = [_leaf(batch, metadata, base, kinds) for batch, metadata in batches]
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, StoreError):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise StoreError(f"the store {path} is damaged or cut short ({reason}).") from None
    fits = _are_leaves_of([leaf.rows for leaf in leaves], content.get("rows"), content.get("leaf"))
    if not fits or not all(_lies_within(leaf, kinds, size) for leaf in leaves):
        raise StoreError(f"the store {path} is damaged: its leaves are not those that it should have.")
    return content, kinds, leaves


def _are_leaves_of(found: list[int], rows: Any, at_most: Any) -> bool:
    """Whether these are the rows of each leaf, of parts with so many ``rows``, where a leaf has ``at_most``."""
    if not isinstance(rows, dict) or set(rows) != set(PARTS):
        return False
    of_parts = [rows[part] for part in PARTS]
    if not all(map(is_count, (*of_parts, at_most))) or not at_most:
        return False
    if len(found) != sum(-(-m // at_most) for m in of_parts):
        return False
    return found == [min(at_most, m - start) for m in of_parts for start in range(0, m, at_most)]


def _lies_within(leaf: Leaf, kinds: Mapping[str, tuple[np.dtype, int]], size: int) -> bool:
    """Whether all fields of a leaf are in a file of so many bytes: Arrow gives others memory of their own."""
    return all(
        0 <= leaf.offsets[name] <= size - leaf.rows * dtype.itemsize * max(width, 1)
        for name, (dtype, width) in kinds.items()
    )


def _content(path: Path, schema: Any) -> dict[str, Any]:
    text = (schema.metadata or {}).get(KEY)
    if text is None:
        raise StoreError(
            f"{path} is an Arrow file, but no store; `fullbatch convert DATA --target COLUMN --out STORE` makes one."
        )
    content = from_json(text)
    version = content["format_version"]
    if not is_count(version) or not 1 <= version <= FORMAT_VERSION:
        raise StoreError(
            f"the store {path} is of version {str(version)[:20]}, and this fullbatch reads versions up to "
            f"{FORMAT_VERSION}; convert the table again, or take the fullbatch that wrote it "
            f"({str(content['fullbatch'])[:20]})."
        )
    if content["sha256"] != _digest(content):
        raise StoreError(f"the store {path} is damaged: its description does not have its checksum.")
    _check_said(content)
    return dict(content)


def _check_said(content: Mapping[str, Any]) -> None:
    """What a store says of itself: ValueError, TypeError or KeyError for what is not of its kind."""
    encoding, arrays, left_out = (content[name] for name in ("encoding", "encoding_arrays", "left_out"))
    require(all(isinstance(one, dict) for one in (encoding, arrays, left_out)), "a part of it is no object")
    names = ("feature_names", "numbers", "indicators", "classes", "categories")
    columns, numbers, indicators, classes, categories = (listed(encoding[name]) for name in names)
    require(all(isinstance(name, str) for name in columns), "a column's name is no text")
    require(isinstance(encoding["target"], str) and encoding["task"] in TASKS, "it has no target, or no task")
    widths = [len(listed(one["levels"])) + one["other"] + one["missing"] for one in categories]
    features = max(1, len(numbers) + len(indicators)) + sum(widths)
    require(content["features"] == features, "features are not those of its encoding")
    require(all(map(is_count, (content["seed"], content["window"], *left_out.values()))), "a count is none")
    require(content["window"] > 0 and isinstance(content["fullbatch"], str), "it does not say how it was made")
    counted = [label for label, count in listed(content["classes"]) if is_count(count)]
    require(counted == classes, "classes are not counted")
    for column in listed(content["columns"]):
        require(isinstance(column["name"], str) and isinstance(column["kind"], str), "a column is not described")
    for values in arrays.values():
        finite = all(type(one) in (int, float) and math.isfinite(one) for one in listed(values))
        require(finite and len(values) == len(numbers), "centers or scales are not those of its numbers")


def _kinds(schema: Any) -> dict[str, tuple[np.dtype, int]]:
    import pyarrow as pa

    kinds = {}
    for name, type_ in zip(schema.names, schema.types, strict=True):
        width = type_.list_size if pa.types.is_fixed_size_list(type_) else 0
        kinds[name] = np.dtype((type_.value_type if width else type_).to_pandas_dtype()), width
    if not {"numbers", "y"} <= set(kinds) <= set(FIELDS):
        raise ValueError(f"its columns are {', '.join(kinds)[:80]}")
    return kinds


def _leaf(batch: Any, metadata: Any, base: int, kinds: Mapping[str, Any]) -> Leaf:
    offsets = {name: batch.column(name).buffers()[-1].address - base for name in kinds}
    return Leaf(batch.num_rows, offsets, int(metadata[CHECKSUM], 16))


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a store does; it may still be damaged, or cut short."""
    try:
        with os.fdopen(open_regular(path), "rb") as file:  # of a pipe nothing is taken away
            if file.read(6) != b"ARROW1":
                return False
            import pyarrow as pa

            file.seek(8)
            return KEY in (pa.ipc.read_schema(pa.ipc.read_message(file)).metadata or {})
    except (OSError, ValueError):  # Arrow's errors are of these
        return False
