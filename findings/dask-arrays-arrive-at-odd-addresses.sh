#!/usr/bin/env bash
# Arrays that Dask sends from one process to another may arrive at odd addresses: of the chunks of
# `persist(da.from_array(X))` most begin at no multiple of 8 (`flags.aligned` is False), and of what `scatter` sends some,
# since the frames of a message lie one after another in one buffer. NumPy computes with them, more slowly, and libraries
# that want alignment copy them at each call. What a worker makes itself is aligned.
#
# fullbatch aligns such a partition once, on its worker.
# Seen on 2026-11-28, Python 3.11. It exits with 1 where that is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q distributed==2026.8.0 dask==2026.8.0 numpy==2.4.6
cd "$folder"
cat >look.py <<'PYTHON'
import dask.array as da
import distributed
import numpy as np


def look(array):
    return array.flags.aligned, array.ctypes.data % 8


def main():
    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        X = np.ones((100_000, 28))
        chunks = client.persist(da.from_array(X, (25_000, 28)))
        distributed.wait(chunks)
        persisted = [client.submit(look, one).result() for one in distributed.futures_of(chunks)]
        scattered = client.submit(look, client.scatter(X)).result()
        made = client.submit(look, client.submit(np.ones, (1000, 28))).result()
    print("distributed", distributed.__version__, "- aligned, and the address modulo 8, on the worker")
    print("chunks of a persisted array:", persisted)
    print("a scattered array:", scattered, " one that the worker made:", made)
    assert made == (True, 0)
    assert not all(aligned for aligned, _ in [*persisted, scattered]), "they arrive aligned now"


if __name__ == "__main__":
    main()
PYTHON
"$folder/venv/bin/python" look.py
