"""``fullbatch info``: what it finds on this machine, as a table and as JSON."""

import json


def test_info(run):
    status, out, _ = run("info")
    assert status == 0
    assert "numpy" in out
    assert "cuda" in out
    found = json.loads(run("info", "--json")[1])
    assert found["devices"][0]["name"] == "cpu"
    assert found["devices"][0]["usable"]
    assert set(found["steps"]) >= {"inplace", "array"}
    assert found["threads"] >= 1
