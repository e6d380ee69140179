"""An encoded table on the disk: one Arrow IPC file, uncompressed, whose record batches are leaves.

    numbers   FixedSizeList<float32|64>[k]     what EncodedTable has as numbers, row-major
    codes     FixedSizeList<uint8|16|32>[c]    what it has as ones; only where there are categories
    y         the class's position, in the smallest unsigned type; of a regression the scaled target
    weight    float32|64; only where rows have weights

The rows to learn from come first, then the held-out ones, in leaves of their own. All leaves of a part but its last
have the same number of rows. The schema's metadata holds the rest as JSON, under "fullbatch-store"; the metadata of a
record batch holds the CRC-32 of its leaf: of the bytes of its columns, one after another.

Rows are read with pread into buffers that each reader owns. A memory map would spare the copy, but a file that is cut
short under one ends the process, and the first touch of its pages takes longer than the copy.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fullbatch.errors import StoreError
from fullbatch.machine.plain_values import is_count
from fullbatch.sources.columns import Array, Columns, Examples, Reader, Where, length
from fullbatch.sources.encoded import EncodedTable, OneHotReader, SparseReader
from fullbatch.sources.memory import Dense, OneHot
from fullbatch.sources.uploaded import Uploaded

KEY = b"fullbatch-store"
CHECKSUM = b"crc32"
FORMAT_VERSION = 1
FIELDS = ("numbers", "codes", "y", "weight")  # in the order in which they lie in a leaf
AT_ONCE = 2**20  # bytes that are read at a time where a whole leaf is checked


class StoredArrays(NamedTuple):
    """Rows of a store in memory.

    numbers : (m, k), the numbers of each row;  codes : (m, c), the features that are 1 beside these, or None
    y : (m,), positions in the classes, or the scaled target;  weight : (m,) or None
    """

    numbers: np.ndarray
    codes: np.ndarray | None
    y: np.ndarray
    weight: np.ndarray | None


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


# --- The file -------------------------------------------------------------------------------------------------------


class StoreFile:
    """The open file, and where its leaves are. Several threads may read from it at once.

    content : what the metadata holds;  kinds : dtype and width of each field, a width of 0 for one value a row
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handle = _opened(path)
        self._close = weakref.finalize(self, os.close, self.handle)
        try:
            self.content, self.kinds, self.leaves = _layout(path, os.fstat(self.handle).st_size)
        except BaseException:
            self.close()
            raise
        self.checked = bytearray(len(self.leaves))
        self.checking = threading.Lock()
        self.ahead = -1  # the leaf up to which the system was asked to read ahead

    def close(self) -> None:
        self._close()

    def read(self, name: str, leaf: int, start: int, out: np.ndarray) -> None:
        """The rows of a leaf from ``start`` on, as many as ``out`` has, which is contiguous."""
        if not self.checked[leaf]:
            self._check(leaf)
        dtype, width = self.kinds[name]
        self._pread(out, self.leaves[leaf].offsets[name] + start * dtype.itemsize * max(width, 1))

    def expect(self, leaf: int) -> None:
        """Have the system read this leaf, which comes soon, while others are worked on."""
        if leaf == self.ahead or leaf >= len(self.leaves) or not hasattr(os, "posix_fadvise") or not self._close.alive:
            return
        self.ahead = leaf
        spans = list(self._spans(leaf))
        first = spans[0][0]
        os.posix_fadvise(self.handle, first, spans[-1][0] + spans[-1][1] - first, os.POSIX_FADV_WILLNEED)

    def _check(self, leaf: int) -> None:
        """Compare a leaf with its checksum; StoreError, which names the leaf, where they differ."""
        with self.checking:
            if self.checked[leaf]:
                return
            found, buffer = 0, np.empty(AT_ONCE, np.uint8)
            for start, size in self._spans(leaf):
                for at in range(start, start + size, AT_ONCE):
                    part = buffer[: min(AT_ONCE, start + size - at)]
                    self._pread(part, at)
                    found = zlib.crc32(part.data, found)
            if found != self.leaves[leaf].checksum:
                raise StoreError(
                    f"{self.path}: leaf {leaf} of {len(self.leaves)} is damaged: its checksum is {found:08x} and not "
                    f"{self.leaves[leaf].checksum:08x}; copy the store anew, or convert the table again."
                )
            self.checked[leaf] = 1

    def _spans(self, leaf: int) -> Iterator[tuple[int, int]]:
        """Where each field of a leaf begins, and how many bytes it has."""
        rows, offsets, _ = self.leaves[leaf]
        for name, (dtype, width) in self.kinds.items():
            yield offsets[name], rows * dtype.itemsize * max(width, 1)

    def _pread(self, out: np.ndarray, offset: int) -> None:
        if not self._close.alive:
            raise StoreError(f"the store {self.path} is closed.")
        view = out.reshape(-1).data.cast("B") if out.size else memoryview(b"")
        while view:
            count = os.preadv(self.handle, [view], offset)
            if not count:
                raise StoreError(f"{self.path} was cut short while it was read: it ends at byte {offset}.")
            view, offset = view[count:], offset + count


def _opened(path: Path) -> int:
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
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
    if not fits or any(max(leaf.offsets.values()) >= size for leaf in leaves):
        raise StoreError(f"the store {path} is damaged: its leaves are not those that it should have.")
    return content, kinds, leaves


def _are_leaves_of(found: list[int], rows: Any, at_most: Any) -> bool:
    """Whether these are the rows of each leaf, of parts with so many ``rows``, where a leaf has ``at_most``."""
    if not isinstance(rows, dict) or not all(map(is_count, (*rows.values(), at_most))) or not at_most:
        return False
    if len(found) != sum(-(-m // at_most) for m in rows.values()):
        return False
    return found == [min(at_most, m - start) for m in rows.values() for start in range(0, m, at_most)]


def _content(path: Path, schema: Any) -> dict[str, Any]:
    text = (schema.metadata or {}).get(KEY)
    if text is None:
        raise StoreError(
            f"{path} is an Arrow file, but no store; `fullbatch convert DATA --target COLUMN --out STORE` makes one."
        )
    content = json.loads(text)
    if content["format_version"] != FORMAT_VERSION:
        raise StoreError(
            f"the store {path} is of version {content['format_version']}, and this fullbatch reads version "
            f"{FORMAT_VERSION}; convert the table again, or take the fullbatch that wrote it ({content['fullbatch']})."
        )
    if content["sha256"] != _digest(content):
        raise StoreError(f"the store {path} is damaged: its description does not have its checksum.")
    return dict(content)


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


# --- Its rows as sources --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """Some leaves of a store, one after another, and their rows: those to learn from, or the held-out ones."""

    file: StoreFile
    first: int
    m: int

    @property
    def leaf(self) -> int:
        """The rows of a leaf."""
        return int(self.file.content["leaf"])

    @property
    def window(self) -> int:
        """So many leaves are mixed with one another in mini-batches."""
        return int(self.file.content["window"])

    @property
    def kinds(self) -> dict[str, tuple[np.dtype, int]]:
        """Dtype and width of each field."""
        return self.file.kinds

    @property
    def leaves(self) -> int:
        return -(-self.m // self.leaf)

    def checksum(self) -> str:
        """Of all leaves."""
        leaves = self.file.leaves[self.first : self.first + self.leaves]
        return _joined(f"{leaf.checksum:08x}" for leaf in leaves)

    def expect(self, leaf: int) -> None:
        """Have the system read this leaf, which comes soon."""
        if leaf < self.leaves:
            self.file.expect(self.first + leaf)

    def reader(self, name: str) -> Callable[[Where], np.ndarray]:
        """Gives a field of some rows, in a buffer of its own that is good until the next call."""
        dtype, width = self.file.kinds[name]
        buffer = np.empty((0, *([width] if width else [])), dtype)

        def read(where: Where) -> np.ndarray:
            nonlocal buffer
            m = length(where)
            if len(buffer) < m:
                buffer = np.empty((m, *buffer.shape[1:]), dtype)
            self.fill(name, where, buffer[:m])
            return buffer[:m]

        return read

    def fill(self, name: str, where: Where, out: np.ndarray) -> None:
        """A field of some rows into ``out``. Rows by number are for few of them: each is read by itself."""
        if not isinstance(where, slice):
            for i, row in enumerate(np.asarray(where).tolist()):
                self.file.read(name, self.first + row // self.leaf, row % self.leaf, out[i : i + 1])
            return
        done, row = 0, where.start
        while row < where.stop:
            leaf, start = divmod(row, self.leaf)
            count = min(self.leaf - start, where.stop - row)
            if start == 0 and name == FIELDS[0]:
                self.expect(leaf + 1)
            self.file.read(name, self.first + leaf, start, out[done : done + count])
            done, row = done + count, row + count

    def arrays(self, where: Where = None) -> StoredArrays:
        """Rows in memory; all of them if None."""
        where = slice(0, self.m) if where is None else where
        found: dict[str, Any] = dict.fromkeys(FIELDS)
        for name, (dtype, width) in self.file.kinds.items():
            found[name] = np.empty((length(where), *([width] if width else [])), dtype)
            self.fill(name, where, found[name])
        return StoredArrays(**found)


def _joined(checksums: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(checksums).encode()).hexdigest()


@dataclass(frozen=True)
class LoadedPart:
    """The same of rows in memory, in leaves and windows as they were in the file."""

    loaded: StoredArrays
    leaf: int
    window: int

    @property
    def m(self) -> int:
        return len(self.loaded.y)

    @property
    def leaves(self) -> int:
        return -(-self.m // self.leaf)

    @property
    def kinds(self) -> dict[str, tuple[np.dtype, int]]:
        there = {name: array for name, array in self.loaded._asdict().items() if array is not None}
        return {name: (array.dtype, array.shape[1] if array.ndim == 2 else 0) for name, array in there.items()}

    def checksum(self) -> str:
        """Of all leaves, as the file has it."""
        found = []
        for start in range(0, self.m, self.leaf):
            checksum = 0
            for array in self.arrays(slice(start, start + self.leaf)):
                checksum = checksum if array is None else zlib.crc32(np.ascontiguousarray(array).data, checksum)
            found.append(f"{checksum:08x}")
        return _joined(found)

    def expect(self, leaf: int) -> None:
        pass

    def reader(self, name: str) -> Callable[[Where], np.ndarray]:
        array = getattr(self.loaded, name)
        return lambda where: array[where]

    def fill(self, name: str, where: Where, out: np.ndarray) -> None:
        out[...] = getattr(self.loaded, name)[where]

    def arrays(self, where: Where = None) -> StoredArrays:
        where = slice(0, self.m) if where is None else where
        numbers, codes, y, weight = (None if array is None else array[where] for array in self.loaded)
        assert numbers is not None
        assert y is not None
        return StoredArrays(numbers, codes, y, weight)


@dataclass(frozen=True)
class Reweighted:
    """A part of a store whose rows weigh by their class too.

    by_class : (classes,), what multiplies each row's own weight, or is it
    """

    part: Part | LoadedPart
    by_class: np.ndarray

    @property
    def m(self) -> int:
        return self.part.m

    @property
    def leaf(self) -> int:
        return self.part.leaf

    @property
    def window(self) -> int:
        return self.part.window

    @property
    def leaves(self) -> int:
        return self.part.leaves

    @property
    def kinds(self) -> dict[str, tuple[np.dtype, int]]:
        return {**self.part.kinds, "weight": (self.part.kinds["numbers"][0], 0)}

    def checksum(self) -> str:
        return self.part.checksum()

    def expect(self, leaf: int) -> None:
        self.part.expect(leaf)

    def reader(self, name: str) -> Callable[[Where], np.ndarray]:
        return self._weights if name == "weight" else self.part.reader(name)

    def fill(self, name: str, where: Where, out: np.ndarray) -> None:
        if name != "weight":
            self.part.fill(name, where, out)
            return
        y = np.empty(len(out), self.part.kinds["y"][0])
        self.part.fill("y", where, y)
        by_class = self.by_class.astype(out.dtype)[y]
        if "weight" in self.part.kinds:
            self.part.fill("weight", where, out)
            by_class *= out
        out[...] = by_class

    def _weights(self, where: Where) -> np.ndarray:
        out = np.empty(length(where), self.kinds["weight"][0])
        self.fill("weight", where, out)
        return out

    def arrays(self, where: Where = None) -> StoredArrays:
        where = slice(0, self.m) if where is None else where
        return self.part.arrays(where)._replace(weight=self._weights(where))


AnyPart = Part | LoadedPart | Reweighted


def class_totals(part: AnyPart, classes: int) -> np.ndarray:
    """What the rows of each class weigh together, (classes,), added row after row as ``np.bincount`` does."""
    totals: np.ndarray = np.zeros(classes)
    read_y = part.reader("y")
    read_weight = part.reader("weight") if "weight" in part.kinds else None
    for start in range(0, part.m, part.leaf):
        rows = slice(start, min(start + part.leaf, part.m))
        y = np.concatenate([np.arange(classes), read_y(rows)])
        own = np.ones(len(y) - classes) if read_weight is None else read_weight(rows)
        totals = np.bincount(y, weights=np.concatenate([totals, own]), minlength=classes)
    return totals


@dataclass(frozen=True)
class StoredTable:
    """The features of a store's rows as a ``Columns`` source: those that EncodedTable would have of them in memory."""

    part: AnyPart
    n: int

    @property
    def m(self) -> int:
        return self.part.m

    @property
    def like(self) -> Array:
        dtype, k = self.part.kinds["numbers"]
        return np.empty((0, k), dtype)

    def checksum(self) -> str:
        """Of all rows, their targets and weights."""
        return self.part.checksum()

    def reader(self) -> Reader:
        if "codes" in self.part.kinds:
            return OneHotReader(self._rows(), self.n)
        read = self.part.reader("numbers")
        return lambda where: read(where).T

    def sparse_reader(self, share: float) -> Reader | None:
        kinds = self.part.kinds
        entries = kinds["numbers"][1] + (kinds["codes"][1] if "codes" in kinds else 0)
        return SparseReader(self._rows(), self.n) if entries <= share * self.n else None

    def _rows(self) -> Callable[[Where], tuple[np.ndarray, np.ndarray]]:
        numbers = self.part.reader("numbers")
        if "codes" not in self.part.kinds:
            return lambda where: (numbers(where), np.empty((length(where), 0), np.uint8))
        codes = self.part.reader("codes")
        return lambda where: (numbers(where), codes(where))


@dataclass(frozen=True)
class StoredTarget:
    """The target of a store's rows as a ``Columns`` source, as the sources in memory have it.

    classes : how many there are; 0 for numbers
    """

    part: AnyPart
    classes: int

    @property
    def n(self) -> int:
        return self.classes if self.classes > 2 else 1

    @property
    def m(self) -> int:
        return self.part.m

    @property
    def like(self) -> Array:
        return np.empty((self.n, 0), self.part.kinds["numbers"][0])

    def reader(self) -> Reader:
        read, dtype = self.part.reader("y"), self.part.kinds["numbers"][0]

        def block(where: Where) -> Array:
            y = target_of(read(where), self.classes, dtype)
            return y.reader()(slice(0, y.m))

        return block


def target_of(y: np.ndarray, classes: int, dtype: Any) -> Columns:
    """A target in memory, codes of so many classes or numbers (0), as a source of this dtype."""
    return OneHot(y, classes if classes > 2 else 1, dtype) if classes else Dense(y[np.newaxis, :])


@dataclass(frozen=True)
class StoredWeight:
    """The weights of a store's rows, as far as a fold asks an array for them."""

    part: AnyPart
    dtype: np.dtype = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", self.part.kinds["weight"][0])

    @property
    def shape(self) -> tuple[int]:
        return (self.part.m,)

    def __getitem__(self, where: Where) -> np.ndarray:
        out = np.empty(length(where), self.dtype)
        self.part.fill("weight", where, out)
        return out


# --- The store ------------------------------------------------------------------------------------------------------


class Store:
    """An encoded table on the disk, open to be read: what ``fullbatch.open_store`` gives.

    Parameters
    ----------
    path : str or path
        The store's file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.file = StoreFile(Path(path))
        rows = self.file.content["rows"]
        self.train: Part | LoadedPart = Part(self.file, 0, rows["train"])
        self.held_out: Part | LoadedPart = Part(self.file, self.train.leaves, rows["held_out"])

    @property
    def path(self) -> Path:
        """The file."""
        return self.file.path

    @property
    def content(self) -> dict[str, Any]:
        """What the file says of itself, as JSON has it."""
        return self.file.content

    @property
    def n(self) -> int:
        """The features that a network sees, one-hot ones too."""
        return int(self.content["features"])

    @property
    def shape(self) -> tuple[int, int]:
        """The rows to learn from, and the features of each."""
        return self.train.m, self.n

    @property
    def columns(self) -> tuple[str, ...]:
        """The input columns of the table that it was made of."""
        return tuple(self.content["encoding"]["feature_names"])

    @property
    def names(self) -> tuple[str, ...]:
        """All columns of that table, as a raw table has them."""
        return tuple(column["name"] for column in self.content["columns"] if column["kind"] != "left out")

    @property
    def target(self) -> str:
        """The name of the target's column."""
        return str(self.content["encoding"]["target"])

    @property
    def task(self) -> str:
        """Either "classify" or "regress"."""
        return str(self.content["encoding"]["task"])

    @property
    def classes(self) -> tuple[Any, ...]:
        """Sorted; ``y`` holds positions in them. () for a regression."""
        return tuple(self.content["encoding"]["classes"])

    @property
    def dtype(self) -> np.dtype:
        """Of the numbers: float32 or float64."""
        return self.file.kinds["numbers"][0]

    @property
    def seed(self) -> int:
        """What the order of the rows, and the held-out ones, were drawn with."""
        return int(self.content["seed"])

    @property
    def usual_batch(self) -> int | None:
        """The rows of a mini-batch where nobody says how many; None: as for any table."""
        return None

    def examples(self, part: AnyPart, place: Any = None) -> Examples:
        """The rows of a part, read as a fold needs them.

        Parameters
        ----------
        part : Part
            ``store.train`` or ``store.held_out``.
        place : Place or None, default=None
            Where the passes run, if not on the host: there they are uploaded block by block, the weights as a whole.

        Returns
        -------
        Examples
        """
        X, Y = StoredTable(part, self.n), StoredTarget(part, len(self.classes))
        weight: Any = StoredWeight(part) if "weight" in part.kinds else None
        if place is None or place.name == "cpu":
            return Examples(X, Y, weight)
        weight = None if weight is None else place.put(weight[slice(0, part.m)])
        return Examples(Uploaded(X, place), Uploaded(Y, place), weight)

    def to_arrays(self, *, held_out: bool = False) -> StoredArrays:
        """The rows to learn from, or the held-out ones, in memory.

        Parameters
        ----------
        held_out : bool, default=False
            Which of the two.

        Returns
        -------
        StoredArrays
            numbers (m, k), codes (m, c) or None, y (m,), weight (m,) or None.
        """
        return (self.held_out if held_out else self.train).arrays()

    def load(self) -> Store:
        """The same store with all rows in memory: what is trained from it has the same bits.

        Returns
        -------
        Store
        """
        loaded = copy.copy(self)
        for name in ("train", "held_out"):
            part = getattr(self, name)
            setattr(loaded, name, LoadedPart(part.arrays(), part.leaf, part.window))
        return loaded

    def __len__(self) -> int:
        """How many leaves there are to learn from."""
        return self.train.leaves

    def __iter__(self) -> Iterator[StoredArrays]:
        """The leaves to learn from, each in memory while it is looked at."""
        part = self.train
        for start in range(0, part.m, part.leaf):
            yield part.arrays(slice(start, min(start + part.leaf, part.m)))

    def close(self) -> None:
        """Close the file. Whatever still reads from it gets a StoreError."""
        self.file.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        m, n = self.shape
        return f"<Store {str(self.path)!r}: {m:,} rows of {n} features, {self.held_out.m:,} held out>"


def examples_of(arrays: StoredArrays, n: int, classes: int) -> Examples:
    """Rows of a store that lie in memory, as examples that are read there as any others are."""
    codes = np.empty((len(arrays.numbers), 0), np.uint8) if arrays.codes is None else arrays.codes
    X = EncodedTable(arrays.numbers, codes, n)
    return Examples(X, target_of(arrays.y, classes, arrays.numbers.dtype), arrays.weight)


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a store does; it may still be damaged, or cut short."""
    try:
        with open(path, "rb") as file:
            if file.read(6) != b"ARROW1":
                return False
            import pyarrow as pa

            file.seek(8)
            return KEY in (pa.ipc.read_schema(pa.ipc.read_message(file)).metadata or {})
    except (OSError, ValueError):  # Arrow's errors are of these
        return False


def open_store(path: str | os.PathLike[str]) -> Store:
    """Open a store, an encoded table on the disk that ``fullbatch convert`` wrote.

    Parameters
    ----------
    path : str or path
        The store's file.

    Returns
    -------
    Store
        ``fit`` of the estimators and ``cost_and_gradients`` take it as it is. It has ``shape`` (rows to learn from,
        and features), ``columns``, ``target``, ``task``, ``classes``, ``seed`` and ``to_arrays()``; to iterate over it
        gives its leaves one by one. A context manager; ``close`` closes the file. Several may be open at once.

    Raises
    ------
    StoreError
        On one line, for a file that is missing, no store, cut short, damaged or of another version. A leaf's checksum
        is compared when it is first read; the error names the leaf.

    Examples
    --------
    >>> import fullbatch as fb, pathlib, tempfile
    >>> from fullbatch.tables.store import convert
    >>> table = {"x": [0.5 * i for i in range(10)], "late": ["no", "yes"] * 5}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "late.store"
    ...     _ = convert(table, path, "late", validation=0.0)
    ...     with fb.open_store(path) as store:
    ...         store.shape, store.columns, store.classes
    ((10, 1), ('x',), ('no', 'yes'))
    """
    return Store(path)
