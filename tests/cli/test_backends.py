"""`anyprop backends`: every backend, with what can be done about those that are missing."""

from __future__ import annotations

from anyprop.backend import Backend
from anyprop.cli import backends


def test_the_table_lists_every_backend(run):
    code, out, err = run("backends")
    assert (code, err) == (0, "")
    header, *rows = out.splitlines()
    assert header.split() == ["backend", "available", "version", "devices", "reason"]
    names = [row.split()[0] for row in rows if not row.startswith(" ")]
    assert names == ["numpy", "cupy", "torch", "jax", "array_api_strict", "dpnp"]
    assert rows[0].split()[:2] + rows[0].split()[3:] == ["numpy", "yes", "cpu"]


def test_the_table_fits_100_columns(run, monkeypatch):
    found = [
        Backend("array_api_strict", True, "2.6.1", ("CPU_DEVICE", "device1", "device2"), ""),
        Backend("torch", True, "2.13.0+cu128", tuple(f"cuda:{i}" for i in range(8)), ""),
        Backend("cupy", False, "14.2.0", (), "the CUDA driver does not answer; " * 5),
    ]
    monkeypatch.setattr(backends, "available_backends", lambda: found)
    _, out, _ = run("backends")
    assert max(map(len, out.splitlines())) <= 100
    words = out.split()
    assert words.count("driver") == 5
    assert [word.strip(",") for word in words if word.startswith("cuda")] == list(found[1].devices)
