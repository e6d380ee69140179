"""A table as a store: the same file from any files, the encoding of the table in memory, what goes wrong."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

import fullbatch as fb
from fullbatch.errors import FullbatchError, InputError, StoreError, TableError
from fullbatch.sources import store_file
from fullbatch.tables import from_store, running_scores
from fullbatch.tables import store as stores
from fullbatch.tables.encoding import TableEncoding
from fullbatch.tables.raw import RawTable
from fullbatch.tables.reading import read_table
from fullbatch.tables.splits import HoldOut
from fullbatch.tables.store import convert, encoding_of

M = 3000


def a_table(m: int = M, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    late = rng.random(m) > 0.6
    return pa.table({
        "town": rng.choice(["Bonn", "Kiel", "Ulm", ""], m),
        "few": rng.integers(1, 8, m),
        "wide": rng.integers(0, 10**9, m),
        "x": (rng.normal(size=m) + late).astype(np.float32),
        "yes": rng.random(m) > 0.5,
        "truth": rng.choice(["true", "false"], m),
        "gap": pa.array(rng.normal(size=m), mask=rng.random(m) < 0.1),
        "nothing": pa.nulls(m),
        "when": pa.array(rng.integers(0, 10**9, m), pa.timestamp("s")),
        "count": pa.array(rng.integers(0, 5, m), pa.int8()),
        "late": pa.array(np.where(late, "yes", "no"), mask=rng.random(m) < 0.02),
    })  # fmt: skip


@pytest.fixture(scope="module")
def table():
    return a_table()


@pytest.fixture(scope="module")
def file(table, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "table.parquet"
    parquet.write_table(table, path, row_group_size=1000)
    return path


@pytest.fixture(scope="module")
def path(file):
    """A store of it; tests change none."""
    out = file.parent / "late.store"
    convert(file, out, "late", validation=0.2, seed=3)
    return out


@pytest.fixture
def store(path):
    with fb.open_store(path) as store:
        yield store


def in_memory(file, seed=3, share=0.2):
    """The rows that have a target, and which of them are held out."""
    raw = read_table(file)
    raw = raw.select(np.flatnonzero(~raw.column("late").missing))
    return raw, HoldOut(share, seed=seed).split(raw, "late")


# --- The same file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_row_groups_of_any_size_give_the_same_file(table, path, tmp_path, size):
    parquet.write_table(table.slice(0, 500) if size == 1 else table, tmp_path / "t.parquet", row_group_size=size)
    convert(tmp_path / "t.parquet", tmp_path / "out", "late", validation=0.2, seed=3)
    if size == 1:
        parquet.write_table(table.slice(0, 500), tmp_path / "t.parquet")
        convert(tmp_path / "t.parquet", tmp_path / "other", "late", validation=0.2, seed=3)
        path = tmp_path / "other"
    assert (tmp_path / "out").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("cuts", [[1500], [1, 2, 2999], [100, 1000]])
def test_several_files_give_the_same_file(table, path, tmp_path, cuts):
    for i, (start, stop) in enumerate(zip([0, *cuts], [*cuts, M], strict=True)):
        part = table.slice(start, stop - start)
        if i % 2:
            feather.write_feather(part, tmp_path / f"{i}.arrow", compression="uncompressed", chunksize=37)
        else:
            parquet.write_table(part, tmp_path / f"{i}.parquet")
    convert(sorted(tmp_path.iterdir()), tmp_path / "out", "late", validation=0.2, seed=3)
    assert (tmp_path / "out").read_bytes() == path.read_bytes()


def test_a_table_in_memory_gives_the_same_file(file, path, tmp_path):
    convert(read_table(file), tmp_path / "out", "late", validation=0.2, seed=3)
    assert (tmp_path / "out").read_bytes() == path.read_bytes()


def test_pieces_and_buckets_of_any_size_give_the_rows_of_the_table(file, tmp_path, monkeypatch):
    from fullbatch.tables import stream

    monkeypatch.setattr(stores, "USUAL_BUCKET", 3000)
    monkeypatch.setattr(stores, "BUCKET", 4000)
    monkeypatch.setattr(stores, "MOST_BUCKETS", 5)  # so that buckets are scattered once more
    monkeypatch.setattr(stores, "leaf_size", lambda n: 256)
    convert(file, tmp_path / "a", "late", seed=3)
    monkeypatch.setattr(stream, "ROWS", 11)
    convert(file, tmp_path / "b", "late", seed=3)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    raw, split = in_memory(file, share=0.1)
    encoding = TableEncoding.learn(raw, "late", rows=split.train)
    with fb.open_store(tmp_path / "a") as store:
        assert len(store) == -(-len(split.train) // 256)
        rows = _rows(encoding.encode(raw), encoding.encode_target(raw))
        assert np.array_equal(_sorted(_rows_of(store.to_arrays())), _sorted(rows[split.train]))
        assert not np.array_equal(_rows_of(store.to_arrays()), rows[split.train])
        assert np.array_equal(_rows_of(store.to_arrays(held_out=True)), rows[split.held_out])
        leaves = list(store)
        assert np.array_equal(np.concatenate([leaf.y for leaf in leaves]), store.to_arrays().y)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def _rows(encoded, y):
    return np.column_stack([encoded.numbers, encoded.ones, y])


def _rows_of(arrays):
    return np.column_stack([arrays.numbers, arrays.codes, arrays.y])


def _sorted(rows):
    return rows[np.lexsort(rows.T)]


def test_rows_are_uniformly_permuted(tmp_path):
    m = 20_000
    convert({"x": np.arange(m), "y": np.arange(m) % 2}, tmp_path / "out", "y", validation=0.0)
    with fb.open_store(tmp_path / "out") as store:
        order = np.argsort(np.argsort(store.to_arrays().numbers[:, 0], kind="stable"))
    assert abs(np.corrcoef(order, np.arange(m))[0, 1]) < 0.02
    assert 3 < np.std(np.histogram(order[: m // 2], 20)[0]) < 200


def test_another_seed_is_another_order_and_other_held_out_rows(file, path, tmp_path):
    convert(file, tmp_path / "out", "late", validation=0.2, seed=4)
    with fb.open_store(tmp_path / "out") as other, fb.open_store(path) as store:
        assert other.seed == 4
        assert other.columns == store.columns
        assert not np.array_equal(other.to_arrays().numbers, store.to_arrays().numbers)
        assert not np.array_equal(other.to_arrays(held_out=True).numbers, store.to_arrays(held_out=True).numbers)


# --- The encoding -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"categorical": ["count", "gap"], "max_levels": 3},
        {"numeric": ["few", "count"]},
        {"dtype": "float64"},
        {"task": "regress", "target": "wide"},
        {"target": "x"},
        {"target": "few"},
        {"target": "yes"},
    ],
)
def test_the_encoding_is_that_of_the_table_in_memory(file, tmp_path, options):
    target = options.pop("target", "late")
    content = convert(file, tmp_path / "out", target, validation=0.2, seed=3, **options)
    raw = read_table(file)
    raw = raw.select(np.flatnonzero(~raw.column(target).missing))
    task = options.get("task")
    split = HoldOut(0.2, seed=3).split(raw, target, task)
    learned, arrays = TableEncoding.learn(raw, target, rows=split.train, **options).to_dict()
    assert content["encoding"] == learned
    assert content["encoding_arrays"] == {name: array.tolist() for name, array in arrays.items()}
    assert content["rows"] == {"train": len(split.train), "held_out": len(split.held_out)}


def test_sums_of_many_leaves_have_the_same_bits(tmp_path, monkeypatch):
    from fullbatch.tables import statistics, stream

    monkeypatch.setattr(statistics, "LEAF", 64)
    monkeypatch.setattr(stream, "ROWS", 50)
    table = a_table(2000, seed=5)
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=70)
    content = convert(tmp_path / "t.parquet", tmp_path / "out", "late")
    raw, split = in_memory(tmp_path / "t.parquet", seed=0, share=0.1)
    _, arrays = TableEncoding.learn(raw, "late", rows=split.train).to_dict()
    assert content["encoding_arrays"] == {name: array.tolist() for name, array in arrays.items()}


def test_weights_leave_the_inputs_and_rows_of_weight_0_are_left_out(tmp_path):
    table = {"x": np.arange(100.0), "w": np.arange(100) % 4, "y": ["a", "b"] * 50}
    content = convert(table, tmp_path / "out", "y", weight="w", validation=0.0)
    with fb.open_store(tmp_path / "out") as store:
        found = store.to_arrays()
        assert store.columns == ("x",)
        assert sorted(found.weight.tolist()) == sorted([1.0, 2.0, 3.0] * 25)
        assert content["left_out"] == {"without_target": 0, "weight_0": 25}
    with pytest.raises(TableError, match="'w' has a negative weight in row 3, -1"):
        convert({**table, "w": np.where(np.arange(100) == 2, -1, 1)}, tmp_path / "no", "y", weight="w")


# --- The file ---------------------------------------------------------------------------------------------------------


def test_any_arrow_reader_opens_it(path, store):
    found = store.to_arrays()
    whole = pa.ipc.open_file(path).read_all().combine_chunks()
    k = found.numbers.shape[1]
    numbers = whole["numbers"].chunk(0).flatten().to_numpy().reshape(-1, k)
    assert np.array_equal(numbers[: store.shape[0]], found.numbers)
    assert np.array_equal(numbers[store.shape[0] :], store.to_arrays(held_out=True).numbers)
    frame = polars.read_ipc(path)
    assert np.array_equal(frame["y"].to_numpy()[: store.shape[0]], found.y)
    assert np.array_equal(np.array(frame["codes"].to_list())[: store.shape[0]], found.codes)
    assert whole.schema.field("y").type == pa.uint8()
    assert whole.schema.field("codes").type == pa.list_(pa.uint8(), found.codes.shape[1])


def test_what_a_store_says(file, store):
    raw, split = in_memory(file)
    encoding = encoding_of(store.content)
    assert store.shape == (len(split.train), encoding.n)
    assert store.columns == tuple(name for name in raw.names if name != "late")
    assert (store.target, store.task, store.classes, store.seed) == ("late", "classify", ("no", "yes"), 3)
    assert f"{len(split.held_out)} held out" in repr(store)
    columns = {column["name"]: column for column in store.content["columns"]}
    assert columns["gap"]["missing"] == int(raw.column("gap").missing[split.train].sum())
    assert (columns["truth"]["kind"], columns["when"]["kind"]) == ("boolean", "date")
    assert dict(store.content["classes"])["yes"] == int((store.to_arrays().y == 1).sum())


def _changed(path, tmp_path, at, value):
    data = bytearray(path.read_bytes())
    data[at] ^= value
    (tmp_path / "changed").write_bytes(data)
    return tmp_path / "changed"


def test_a_wrong_checksum_names_the_leaf_and_nothing_else_is_lost(path, store, tmp_path):
    leaf = store.file.leaves[1]  # the held-out one
    with fb.open_store(_changed(path, tmp_path, leaf.offsets["numbers"] + 5, 1)) as changed:
        assert np.array_equal(changed.to_arrays().y, store.to_arrays().y)
        with pytest.raises(StoreError, match="changed: leaf 1 of 2 is damaged"):
            changed.to_arrays(held_out=True)


def _that_says(path, tmp_path, *keys, to):
    """The store with one thing that it says changed, and the checksum of that."""
    with pa.ipc.open_file(path) as reader:
        batches = [reader.get_batch_with_custom_metadata(i) for i in range(reader.num_record_batches)]
        schema = reader.schema
    content = json.loads(schema.metadata[store_file.KEY])
    content.pop("sha256")
    place = content
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    schema = schema.with_metadata({store_file.KEY: store_file.sealed(content)})
    with pa.ipc.new_file(tmp_path / "says", schema) as writer:
        for batch, metadata in batches:
            writer.write_batch(batch.replace_schema_metadata(schema.metadata), custom_metadata=metadata)
    return tmp_path / "says"


@pytest.mark.parametrize(
    ("keys", "to"),
    [
        (["rows"], {"learned": 3, "held_out": 4}), (["rows"], {}), (["encoding"], None), (["encoding", "task"], "see"),
        (["encoding", "target"], 5), (["encoding", "classes"], "ny"), (["encoding", "feature_names", 0], 7),
        (["encoding", "categories", 0, "levels"], None), (["encoding_arrays"], []), (["encoding_arrays", "mean"], "x"),
        (["encoding_arrays", "mean", 0], None), (["encoding_arrays", "scale", 0], True), (["features"], 2**62),
        (["features"], -1), (["seed"], "x"), (["seed"], -1), (["window"], 0), (["window"], {}), (["left_out"], [1]),
        (["left_out"], {"why": -1}), (["classes"], [["no", 1]]), (["classes", 0, 1], 0.5), (["columns"], {}),
        (["columns", 0, "name"], None), (["fullbatch"], None),
    ],
)  # fmt: skip
def test_what_a_store_cannot_say_is_refused(path, tmp_path, keys, to):
    with fb.open_store(_that_says(path, tmp_path, "validation", to=0.5)) as store:  # so that it is the change
        assert store.content["validation"] == 0.5
    with pytest.raises(StoreError, match="damaged"):
        fb.open_store(_that_says(path, tmp_path, *keys, to=to))


def test_parts_are_found_by_name(path, tmp_path):
    with fb.open_store(path) as store:
        rows = store.content["rows"]
    swapped = dict(reversed(rows.items()))
    with fb.open_store(_that_says(path, tmp_path, "rows", to=swapped)) as store:
        assert (store.train.m, store.held_out.m) == (rows["train"], rows["held_out"])


def test_a_field_that_is_not_in_the_file_is_refused(path, tmp_path):
    """Arrow gives what it unpacks memory of its own, which is no place in the file."""
    with pa.ipc.open_file(path) as reader:
        batches = [reader.get_batch_with_custom_metadata(i) for i in range(reader.num_record_batches)]
        packed = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_file(tmp_path / "packed", reader.schema, options=packed) as writer:
            for batch, metadata in batches:
                writer.write_batch(batch, custom_metadata=metadata)
    with pytest.raises(StoreError, match="damaged"):
        fb.open_store(tmp_path / "packed")


def test_a_checksum_is_compared_once(path):
    with fb.open_store(path) as store:
        store.to_arrays()
        assert list(store.file.checked) == [1, 0]
        store.file.leaves.clear()  # what is checked is not looked up for that any more


def test_leaves_are_compared_in_several_threads_at_once(path, monkeypatch):
    together, crc32 = threading.Barrier(2), zlib.crc32

    def with_the_other(*given):
        together.wait(60)  # a BrokenBarrierError, were the other to wait for this one
        return crc32(*given)

    with fb.open_store(path) as store, ThreadPoolExecutor(2) as threads:
        monkeypatch.setattr(store_file, "AT_ONCE", 2**30)  # a call for each field, so that both have as many
        monkeypatch.setattr(zlib, "crc32", with_the_other)
        list(threads.map(store.file._check, (0, 1)))
        assert list(store.file.checked) == [1, 1]


def test_a_leaf_that_two_threads_need_is_compared_once(path, monkeypatch):
    calls, crc32 = [], zlib.crc32

    def slowly(*given):
        calls.append(threading.get_ident())
        time.sleep(0.01)
        return crc32(*given)

    with fb.open_store(path) as store, ThreadPoolExecutor(4) as threads:
        monkeypatch.setattr(zlib, "crc32", slowly)
        list(threads.map(store.file._check, [0] * 4))
        assert len(set(calls)) == 1


def test_a_leaf_that_is_expected_is_compared_before_anybody_needs_it(path, store, tmp_path):
    with fb.open_store(path) as other:
        other.file.expect(0)
        other.file.wait(0)
        end = time.monotonic() + 60
        while other.file.ahead.coming and time.monotonic() < end:
            time.sleep(0.001)
        assert list(other.file.checked) == [1, 0]
    leaf = store.file.leaves[1]
    with fb.open_store(_changed(path, tmp_path, leaf.offsets["numbers"] + 5, 1)) as changed:
        changed.file.expect(1)  # which tells nobody
        changed.file.wait(1)
        with pytest.raises(StoreError, match="changed: leaf 1 of 2 is damaged"):
            changed.to_arrays(held_out=True)
        assert list(changed.file.checked)[1] == 0


def test_a_child_of_a_fork_compares_what_a_thread_of_its_parent_was_comparing(path):
    with fb.open_store(path) as store, store.file.comparing[0]:
        store.file.process = 0  # as if the lock were held by another's thread
        checking = threading.Thread(target=store.file._check, args=[0], daemon=True)
        checking.start()
        checking.join(60)
        assert store.file.checked[0]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_store_that_is_cut_short_is_noticed_when_it_is_opened(path, tmp_path, share):
    data = path.read_bytes()
    (tmp_path / "cut").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(StoreError, match="cut short"):
        fb.open_store(tmp_path / "cut")


def test_what_is_no_store(path, store, tmp_path):
    with pytest.raises(StoreError, match="there is no store"):
        fb.open_store(tmp_path / "absent")
    with pytest.raises(StoreError, match="cannot be read: Is a directory"):
        fb.open_store(tmp_path)
    (tmp_path / "text").write_text("x,y\n1,2\n")
    with pytest.raises(StoreError, match="is no store; `fullbatch convert"):
        fb.open_store(tmp_path / "text")
    feather.write_feather(pa.table({"x": [1]}), tmp_path / "arrow", compression="uncompressed")
    with pytest.raises(StoreError, match="is an Arrow file, but no store"):
        fb.open_store(tmp_path / "arrow")
    assert not store_file.is_store(tmp_path / "arrow")
    assert store_file.is_store(path)
    with pytest.raises(StoreError, match="is of version 9, and this fullbatch reads versions up to 2"):
        fb.open_store(_with_content(path, tmp_path, {**store.content, "format_version": 9}))
    with pytest.raises(StoreError, match="does not have its checksum"):
        fb.open_store(_with_content(path, tmp_path, {**store.content, "seed": 5}, seal=False))
    with pytest.raises(StoreError, match="not those that it should have"):
        fb.open_store(_with_content(path, tmp_path, {**store.content, "rows": {"train": 1, "held_out": 1}}))


def _with_content(path, tmp_path, content, seal=True):
    """The store with another description."""
    reader = pa.ipc.open_file(path)
    text = store_file.sealed(content) if seal else json.dumps(content).encode()
    with pa.ipc.new_file(tmp_path / "other", reader.schema.with_metadata({store_file.KEY: text})) as writer:
        for i in range(reader.num_record_batches):
            batch, metadata = reader.get_batch_with_custom_metadata(i)
            writer.write_batch(batch.replace_schema_metadata({store_file.KEY: text}), custom_metadata=metadata)
    return tmp_path / "other"


def test_a_closed_store_says_so(path):
    store = fb.open_store(path)
    store.close()
    with pytest.raises(StoreError, match="is closed"):
        store.to_arrays()


def test_a_store_cut_short_while_it_is_read_is_an_error(path, tmp_path):
    (tmp_path / "late").write_bytes(path.read_bytes())
    with fb.open_store(tmp_path / "late") as store:
        os.truncate(tmp_path / "late", 5000)
        with pytest.raises(StoreError, match="was cut short while it was read: it ends at byte 5000"):
            store.to_arrays()


# --- What goes wrong while it is made ---------------------------------------------------------------------------------


def test_a_file_that_changes_while_it_is_read(table, tmp_path):
    parquet.write_table(table, tmp_path / "t.parquet")

    def touch(phase, done, total):
        if phase == "encode":
            os.utime(tmp_path / "t.parquet", ns=(1, 1))

    with pytest.raises(TableError, match=r"t\.parquet has changed while it was read"):
        convert(tmp_path / "t.parquet", tmp_path / "out", "late", tell=touch)
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]


def test_a_file_of_the_set_that_cannot_be_read_in_the_middle(table, tmp_path):
    for i in range(3):
        parquet.write_table(table.slice(1000 * i, 1000), tmp_path / f"{i}.parquet")
    data = bytearray((tmp_path / "1.parquet").read_bytes())
    data[200:4000] = bytes(3800)
    (tmp_path / "1.parquet").write_bytes(data)
    with pytest.raises(FullbatchError, match=r"1\.parquet"):
        convert([tmp_path / f"{i}.parquet" for i in range(3)], tmp_path / "out", "late")
    assert len(list(tmp_path.iterdir())) == 3


def test_files_of_other_columns_or_kinds(table, tmp_path):
    parquet.write_table(table, tmp_path / "0.parquet")
    parquet.write_table(table.drop_columns("few"), tmp_path / "1.parquet")
    with pytest.raises(TableError, match="it lacks 'few'; expected the same ones"):
        convert([tmp_path / "0.parquet", tmp_path / "1.parquet"], tmp_path / "out", "late")
    texts = table.set_column(1, "few", table["few"].cast(pa.string()))
    parquet.write_table(texts, tmp_path / "1.parquet")
    with pytest.raises(TableError, match="'few' differs among the files: number and text"):
        convert([tmp_path / "0.parquet", tmp_path / "1.parquet"], tmp_path / "out", "late")


def test_a_disk_that_is_full_or_will_be(file, tmp_path, monkeypatch):
    usage = stores.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(stores.shutil, "disk_usage", lambda folder: usage._replace(free=100))
    plans = []
    with pytest.raises(InputError, match=r"needs .* bytes of disk while it is written, and 100 are free") as error:
        convert(file, tmp_path / "out", "late", planned=plans.append)
    assert f"needs {2 * plans[0].bytes:,} bytes" in str(error.value)  # a bucket is as large as so small a store
    monkeypatch.setattr(stores, "BUCKET", 64)
    with pytest.raises(InputError, match=f"needs {plans[0].bytes + 64:,} bytes"):
        convert(file, tmp_path / "out", "late")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()

    def full(file, records):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stores, "_put", full)
    with pytest.raises(InputError, match=r"cannot write the store .*No space left"):
        convert(file, tmp_path / "out", "late")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("when", ["count", "encode", "write"])
def test_an_interruption_leaves_nothing_behind(file, tmp_path, when):
    def interrupt(phase, done, total):
        if phase == when:
            raise KeyboardInterrupt

    (tmp_path / "out").write_text("what was there")
    with pytest.raises(KeyboardInterrupt):
        convert(file, tmp_path / "out", "late", tell=interrupt)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "what was there"


@pytest.mark.parametrize(
    ("table", "target", "options", "words"),
    [
        ({"x": [1.0, 2.0], "y": ["a", None]}, "y", {}, "one row is left to learn from"),
        ({"x": [1.0, 2.0], "y": [None, None]}, "y", {}, "no row is left to learn from"),
        ({"x": [1.0, 2.0], "y": ["a", "a"]}, "y", {}, "is 'a' in every row"),
        ({"y": ["a", "b"]}, "y", {}, "is the only column"),
        ({"x": [1.0, np.inf], "y": ["a", "b"]}, "y", {}, "'x' is infinite in row 2"),
        ({"x": ["u", "v"], "y": ["a", "b"]}, "y", {"numeric": ["x"]}, "must hold numbers, but row 1 has 'u'"),
        ({"x": [1.0, 2.0], "y": ["a", "b"]}, "z", {}, "no column 'z'"),
        ({"x": [1.0, 2.0], "y": ["a", "b"]}, "y", {"weight": "y"}, "is given as the target and the weight"),
        ({"x": [1.0, 2.0], "y": ["a", "b"]}, "y", {"validation": 1.5}, "validation must be at least 0"),
    ],
)
def test_a_table_that_cannot_be_learned_from(tmp_path, table, target, options, words):
    with pytest.raises(FullbatchError, match=words):
        convert(RawTable.of(table), tmp_path / "out", target, **{"validation": 0.0, **options})
    assert list(tmp_path.iterdir()) == []


def test_an_error_has_the_row_s_number_in_the_whole_table(tmp_path, monkeypatch):
    from fullbatch.tables import stream

    monkeypatch.setattr(stream, "ROWS", 10)
    x = np.zeros(100)
    x[57] = np.inf
    with pytest.raises(TableError, match="infinite in row 58;"):
        convert({"x": x, "y": ["a", "b"] * 50}, tmp_path / "out", "y")
    gaps = [None if i % 3 == 0 else float(i) for i in range(100)]
    gaps[56] = -1.0
    with pytest.raises(TableError, match="row 57 has -1"):  # rows without a target do not count, and are numbered
        convert({"x": np.zeros(100), "y": gaps}, tmp_path / "out", "y", loss="poisson", task="regress")
    texts = ["bad" if i == 58 else str(i) for i in range(100)]
    with pytest.raises(TableError, match="row 59 has 'bad'"):
        convert({"x": texts, "y": gaps}, tmp_path / "out", "y", numeric=["x"], task="regress")


# --- Scores in blocks -------------------------------------------------------------------------------------------------


def test_scores_in_blocks_are_those_of_all_rows(store, monkeypatch):
    model = fb.TableClassifier(epochs=3, hidden=(4,), validation=0.2).fit(store)
    whole = from_store.scores(model.network_, store)
    monkeypatch.setattr(running_scores, "EXACT", 10)
    monkeypatch.setattr(from_store, "ROWS", 100)
    for exact, found in zip(whole, from_store.scores(model.network_, store), strict=True):
        assert found.pop("bins") == running_scores.BINS
        assert found["confusion_matrix"] == exact.pop("confusion_matrix")
        assert {k: v for k, v in found.items() if k != "confusion_matrix"} == pytest.approx(exact, abs=1e-5)


def test_a_metric_that_needs_all_rows_is_refused_before_a_training_that_has_too_many(store, monkeypatch):
    monkeypatch.setattr(running_scores, "EXACT", 10)
    monkeypatch.setattr(fb.TableClassifier, "_fit_trainer", None)
    with pytest.raises(InputError, match="the metric 'neg_brier_score' needs all rows at once"):
        fb.TableClassifier(epochs=3, validation=0.2, metric="neg_brier_score").fit(store)


def test_what_a_killed_conversion_left_is_removed_by_the_next(file, path, tmp_path):
    (tmp_path / ".out.buckets").mkdir()
    (tmp_path / ".out.buckets" / "b0").write_bytes(b"rows")
    convert(file, tmp_path / "out", "late", validation=0.2, seed=3)
    assert (tmp_path / "out").read_bytes() == path.read_bytes()
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")] == ["out"]


@pytest.mark.parametrize("kind", ["%Y-%m-%d", "%d.%m.%Y"])
def test_texts_that_are_dates_have_the_encoding_of_the_table_in_memory(tmp_path, kind):
    rng = np.random.default_rng(0)
    days = [str(np.datetime64("2023-01-01") + np.timedelta64(int(day), "D")) for day in rng.integers(0, 700, 900)]
    if kind != "%Y-%m-%d":
        days = [".".join(reversed(day.split("-"))) for day in days]
    table = pa.table({"day": days, "x": rng.normal(size=900), "late": rng.choice(["no", "yes"], 900)})
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=100)
    content = convert(tmp_path / "t.parquet", tmp_path / "out", "late", validation=0.2, seed=3)
    raw, split = in_memory(tmp_path / "t.parquet")
    learned, arrays = TableEncoding.learn(raw, "late", rows=split.train).to_dict()
    assert content["encoding"] == learned
    assert {category["part"] for category in learned["categories"]} == {"weekday", "month"}
    assert content["encoding_arrays"] == {name: array.tolist() for name, array in arrays.items()}


# --- Roles of columns, and what a training asks for ------------------------------------------------------------------


def table_of_numbers(m=2000):
    rng = np.random.default_rng(1)
    x = rng.normal(size=m)
    return {
        "x": x,
        "few": rng.integers(0, 4, m),
        "who": rng.choice([f"p{i}" for i in range(40)], m),
        "day": np.datetime64("2024-01-01") + rng.integers(0, 300, m),
        "w": np.where(rng.random(m) < 0.1, 0.0, rng.random(m)),
        "count": rng.poisson(np.exp(x / 2)),
        "late": np.where(x + rng.normal(size=m) > 0, "yes", "no"),
    }


@pytest.mark.parametrize(
    ("options", "of_encoding"),
    [
        ({"group": "who", "weight": "w"}, {}),
        ({"split_by": "day"}, {}),
        ({"split_by": "day", "drop": ["day"], "weight": "w"}, {}),
        ({"split_by": "x", "columns": ["few", "count"]}, {}),
        ({"split_by": "few", "validation": 0.4}, {}),
        ({"target": "count", "task": "regress", "loss": "poisson", "group": "who"}, {"loss": "poisson"}),
        ({"target": "count", "task": "regress", "log_target": True}, {"log_target": True}),
    ],
)
def test_the_same_rows_are_held_out_as_of_a_table_in_memory(tmp_path, monkeypatch, options, of_encoding):
    from fullbatch.tables import stream
    from fullbatch.tables.fit import learnable
    from fullbatch.tables.roles import Roles

    monkeypatch.setattr(stream, "ROWS", 130)
    options = {"target": "late", "validation": 0.2, "seed": 3, **options}
    raw = RawTable.of(table_of_numbers())
    target, weight, task = options.pop("target"), options.get("weight"), options.get("task")
    content = convert(raw, tmp_path / "out", target, **options)
    rows = learnable(raw, target, None if weight is None else raw.column(weight).values.astype(np.float32))
    rule = HoldOut(options["validation"], options.get("split_by"), options.get("group"), 3)
    split = rule.split(rows.table, target, task)
    out = {name for name in raw.names if name not in (*options.get("columns", raw.names), target)}
    roles = Roles(target, weight, options.get("split_by"), options.get("group"), (*options.get("drop", ()), *out))
    features = roles.features(rows.table)
    encoding = TableEncoding.learn(features, target, task=task, rows=split.train, **of_encoding)
    assert content["encoding"] == encoding.to_dict()[0]
    assert content["rows"] == {"train": len(split.train), "held_out": len(split.held_out)}
    assert content.get("held_out_by", "drawn at random") == split.how
    with fb.open_store(tmp_path / "out") as store:
        held_out = store.to_arrays(held_out=True)
        assert np.array_equal(held_out.numbers, encoding.encode(features.select(split.held_out)).numbers)
        if weight is not None:
            assert rows.weight is not None
            assert np.array_equal(held_out.weight, rows.weight[split.held_out])
        kinds = {column["name"]: column["kind"] for column in store.content["columns"]}
    assert {name for name, kind in kinds.items() if kind == "left out"} == (
        set(raw.names) - set(features.names) - (out - {options.get("split_by")})
    )


def test_classes_that_only_held_out_rows_have_are_left_out(tmp_path):
    table = {**table_of_numbers(300), "late": ["a", "b"] * 140 + ["c"] * 20, "t": np.arange(300)}
    content = convert(table, tmp_path / "out", "late", split_by="t", validation=0.1)
    assert content["encoding"]["classes"] == ["a", "b"]
    assert content["not_scored"] == {"c": 20}
    assert content["rows"] == {"train": 270, "held_out": 10}
    with pytest.raises(TableError, match="no row is left to score"):
        convert({**table, "late": ["a", "b"] * 135 + ["c"] * 30}, tmp_path / "no", "late", split_by="t")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split_by": "text"}, "have no order in time"),
        ({"split_by": "one"}, "has one value in all rows"),
        ({"group": "one"}, "has one group"),
        ({"group": "gaps"}, "'gaps' has no value in row 3 and decides groups"),
        ({"split_by": "gaps"}, "'gaps' has no value in row 3 and decides the order"),
        ({"split_by": "x", "group": "one"}, "not by both"),
        ({"weight": "x", "group": "x"}, "is given as the weight and group"),
        ({"weight": "huge"}, "too large for float32 in row 2"),
        ({"target": "x", "loss": "poisson"}, "needs numbers of at least 0, but row 5 has -1"),
        ({"loss": "poisson"}, "belongs to a regression"),
    ],
)
def test_roles_that_cannot_be(tmp_path, options, words):
    table = {
        "x": [1.5, 2, 3, 4, -1, 5.0],
        "one": [1] * 6,
        "gaps": [1, 2, None, 3, 4, 5],
        "huge": [1.0, 1e300, 1, 1, 1, 1],
        "text": ["u", "v"] * 3,
        "late": ["a", "b"] * 3,
    }
    target = options.pop("target", "late")
    with pytest.raises(FullbatchError, match=words):
        convert(RawTable.of(table), tmp_path / "out", target, **{"validation": 0.3, **options})


@pytest.mark.parametrize(
    ("made", "params"),
    [
        ({"weight": "w"}, {"class_weight": "balanced", "threshold": "auto", "metric": "f1"}),
        ({}, {"class_weight": {"no": 1.0, "yes": 3.0}, "batch_size": 50}),
        ({"target": "count", "task": "regress", "loss": "poisson"}, {"loss": "poisson", "metric": "r2"}),
        ({"target": "count", "task": "regress"}, {"loss": "absolute_error"}),
        ({"target": "count", "task": "regress", "weight": "w"}, {"loss": "quantile", "quantile": 0.8}),
        ({"target": "count", "task": "regress", "log_target": True}, {"log_target": True}),
    ],
)
def test_a_training_asks_for_what_it_asks_of_a_table(tmp_path, made, params):
    target, task = made.pop("target", "late"), made.get("task", "classify")
    table, weight = {**table_of_numbers(1000)}, made.get("weight")
    convert(RawTable.of(table), tmp_path / "out", target, validation=0.2, seed=3, **made)
    kind = fb.TableClassifier if task == "classify" else fb.TableRegressor
    options = {"hidden": (3,), "epochs": 3, "validation": 0.2, "random_state": 3, "batch_size": "full", **params}
    with fb.open_store(tmp_path / "out") as store:
        model, loaded = kind(**options).fit(store), kind(**options).fit(store.load())
    assert np.array_equal(model.network_.theta, loaded.network_.theta)
    record, found = model.record_, model.record_["held_out"]
    assert found == loaded.record_["held_out"]
    assert record["guess"] == loaded.record_["guess"]
    of_table = kind(**options).fit(table, target=target, sample_weight=weight)
    assert record["held_out_rows"] == of_table.record_["held_out_rows"]
    assert record["weight"] == of_table.record_["weight"]
    guess = {name: value for name, value in of_table.record_["guess"].items() if not isinstance(value, (list, dict))}
    assert {name: record["guess"][name] for name in guess} == pytest.approx(guess, rel=1e-5, nan_ok=True)
    if "batch_size" not in params:  # One batch of all rows, in another order, is the same but for rounding.
        assert model.network_.theta == pytest.approx(of_table.network_.theta, rel=1e-2, abs=1e-3)
        if "threshold" in params:
            assert 0 < model.threshold_ < 1


def test_a_loss_that_the_store_was_not_made_for(tmp_path):
    convert(table_of_numbers(200), tmp_path / "out", "count", task="regress")
    with fb.open_store(tmp_path / "out") as store:
        for params in ({"loss": "poisson"}, {"log_target": True}):
            with pytest.raises(InputError, match="convert the table with these options"):
                fb.TableRegressor(**params).fit(store)
        with pytest.raises(ValueError, match="convert the table for this loss"):
            fb.MLPRegressor(loss="poisson").fit(store)


# --- CSV --------------------------------------------------------------------------------------------------------------


def csv_table(m=1200):
    """Columns of every kind, and such whose kind a late row decides."""
    rng = np.random.default_rng(4)
    days = [str(np.datetime64("2023-01-01") + np.timedelta64(int(day), "D")) for day in rng.integers(0, 600, m)]
    late = m - 10
    return {
        "zip": [f"{code:04}" for code in rng.integers(0, 50, m)],
        "zeros": [*(f"0{i % 7}" for i in range(late)), *["0.5"] * 10],  # numbers after all
        "whole": [*map(str, rng.integers(0, 9, late)), *["2.5"] * 10],
        "words": [*map(str, rng.integers(0, 9, late)), *["many"] * 10],
        "gaps": [*("" if i % 9 else "None" for i in range(late)), *["many"] * 10],
        "price": [f"{x:.3f}" for x in rng.normal(size=m)],
        "truth": rng.choice(["true", "false", "NA"], m),
        "day": days,
        "european": [".".join(reversed(day.split("-"))) for day in days],
        "when": [f"{day} 12:30:00{'Z' if i > late else ''}" for i, day in enumerate(days)],
        "clock": [f"{i % 24:02}:15" for i in range(m)],
        "mixed": [*days[:late], *["no date"] * 10],
        "empty": [""] * m,
        "town": rng.choice(['Bonn, "old"', "Kiel", "Ulm"], m),
        "late": rng.choice(["no", "yes", ""], m, p=[0.5, 0.45, 0.05]),
    }


def write_csv(path, table, rows=slice(None), delimiter=","):
    import csv
    import gzip

    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(table)
        writer.writerows(list(zip(*table.values(), strict=True))[rows])


@pytest.fixture
def small_blocks(monkeypatch):
    from fullbatch.tables import stream

    monkeypatch.setattr("fullbatch.tables.rows.CSV_BLOCK", 4000)
    monkeypatch.setattr(stream, "ROWS", 97)


def same_store(folder, files, target="late", **options):
    """The store of files is that of the table that they make in memory."""
    convert(read_table(files), folder / "memory", target, **options)
    convert(files, folder / "pieces", target, **options)
    assert (folder / "pieces").read_bytes() == (folder / "memory").read_bytes()
    return fb.open_store(folder / "pieces")


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_csv_in_pieces_gives_the_store_of_the_table_in_memory(tmp_path, small_blocks, name):
    write_csv(tmp_path / name, csv_table())
    with same_store(tmp_path, tmp_path / name, validation=0.2, seed=5) as store:
        kinds = {column["name"]: column["kind"] for column in store.content["columns"]}
    assert {n for n, kind in kinds.items() if kind == "category"} >= {"zip", "words", "gaps", "mixed", "town"}
    assert {n for n, kind in kinds.items() if kind == "date"} >= {"day", "european", "when"}


def test_csv_in_several_files_folders_and_beside_parquet(tmp_path, small_blocks):
    table = csv_table()
    for i, year in enumerate(("2023", "2024")):
        (tmp_path / "in" / f"year={year}" / "kind=a").mkdir(parents=True)
        write_csv(tmp_path / "in" / f"year={year}" / "kind=a" / "part.csv", table, slice(600 * i, 600 * (i + 1)), ";")
    with same_store(tmp_path, tmp_path / "in") as store:
        assert {"year", "kind"} <= set(store.columns)
    numbers = table_of_numbers(300)
    parquet.write_table(pa.table(numbers), tmp_path / "1.parquet")
    write_csv(tmp_path / "2.csv", dict(reversed(numbers.items())))
    same_store(tmp_path, [tmp_path / "1.parquet", tmp_path / "2.csv"]).close()


@pytest.mark.parametrize("order", ["rising", "mixed"])
def test_row_numbers_of_a_csv_file_are_left_out(tmp_path, small_blocks, order):
    numbers = np.arange(300)[:: 1 if order == "rising" else -1]
    table = {"": numbers, "x": np.arange(300) % 7, "late": ["a", "b", "c"] * 100}
    write_csv(tmp_path / "t.csv", table)
    with same_store(tmp_path, tmp_path / "t.csv") as store:
        assert store.columns == ("x",)
    write_csv(tmp_path / "t.csv", {**table, "": [0, *numbers[:-1]]})
    with same_store(tmp_path, tmp_path / "t.csv") as store:
        assert store.columns == (("x",) if order == "mixed" else ("", "x"))


def test_a_csv_file_that_is_cut_within_a_row_while_it_is_read(tmp_path, small_blocks):
    """It has changed; that the row has no end is of no interest."""
    write_csv(tmp_path / "t.csv", csv_table(300))
    end = (tmp_path / "t.csv").read_bytes().index(b"\n", 2000) + 2

    def cut(phase, done, total):
        if phase == "encode":
            os.truncate(tmp_path / "t.csv", end)

    with pytest.raises(TableError, match=r"t\.csv has changed while it was read"):
        convert(tmp_path / "t.csv", tmp_path / "out", "late", tell=cut)


def test_a_csv_file_that_changes_or_is_damaged(tmp_path, small_blocks):
    write_csv(tmp_path / "t.csv", csv_table(300))

    def touch(phase, done, total):
        if phase == "encode":
            os.utime(tmp_path / "t.csv", ns=(1, 1))

    with pytest.raises(TableError, match=r"t\.csv has changed while it was read"):
        convert(tmp_path / "t.csv", tmp_path / "out", "late", tell=touch)
    write_csv(tmp_path / "u.csv.gz", csv_table(300))
    (tmp_path / "u.csv.gz").write_bytes((tmp_path / "u.csv.gz").read_bytes()[:-3000])
    with pytest.raises(TableError, match="damaged or cut short"):
        convert([tmp_path / "t.csv", tmp_path / "u.csv.gz"], tmp_path / "out", "late")
    (tmp_path / "t.csv").write_text("x,late\n1,a\n2\n")
    with pytest.raises(TableError, match="row 2"):
        convert(tmp_path / "t.csv", tmp_path / "out", "late")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv", "u.csv.gz"]
