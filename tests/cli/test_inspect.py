"""`anyprop inspect`: what is inside a file, or one sentence why it cannot be shown."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import anyprop as ap
from anyprop.checkpoint.tensors import Reader, write


def test_a_trained_model(run, images):
    run("train", "--data", images, "--steps", "20", "--hidden", "8", "--norm", "batch")
    code, out, err = run("inspect", "runs/train/model.safetensors")
    assert (code, err) == (0, "")
    final = json.loads(Path("runs/train/history.json").read_text())["final"]
    rows = [line.split() for line in out.splitlines()]
    assert ["3", "Affine(d=8,", "m=3,", "bias=True)", "27", "W", "8", "x", "3,", "b", "3"] in rows
    assert ["step", "20"] in rows
    assert ["test", "accuracy", f"{final['test_accuracy']:.4f}"] in rows
    assert "parameters     331 to train and 16 running statistics" in out  # 36 8 + 2 8 + 8 3 + 3
    assert "RMSProp(lr=0.001, " in out
    assert '"hidden": [8]' in " ".join(out.split())  # long lines are wrapped
    assert "not finite" not in out


def test_the_checksum_shown_is_that_of_the_file(run, tmp_path):
    ap.save("a", ap.Affine(2, 3).init())
    (shown,) = (w for w in run("inspect", "a")[1].replace(",", "").split() if len(w) == 64)
    content = (tmp_path / "a").read_bytes().replace(shown.encode(), b"0" * 64)
    assert hashlib.sha256(content).hexdigest() == shown


def test_everything_that_a_file_can_hold(run):
    net, opt = ap.MLP([4, 3, 2]), ap.AdamW(lr=ap.schedules.Cosine(0.1, steps=9))
    params = net.init()
    params[0].W[0, :2] = np.nan, np.inf
    records = [ap.EpochRecord(1, 2, 0.5, 0.25, 0.75, 0.1, 1.5)]
    history = ap.History([0.75, 0.5], records)
    ap.save("a", params, net=net, optimizer=opt, state=opt.init(params), history=history)
    out = run("inspect", "a")[1]
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert "state m, v; learning rate times 1" in rows
    assert "history 2 losses, from 0.75 to 0.5" in rows
    assert "validation accuracy 0.7500" in rows
    assert "not finite 2 numbers" in rows
    assert "AdamW(lr=Cosine(lr=0.1, steps=9" in out


def test_parameters_without_a_network(run):
    ap.save("a", ap.MLP([4, 3, 2]).init())
    assert "0.W 4 x 3, 0.b 3, 2.W 3 x 2, 2.b 2" in run("inspect", "a")[1]
    ap.save("a", ap.Affine(4, 3).init(), net=ap.Affine(4, 3))
    assert "Affine(d=4, m=3, bias=True)  15       W 4 x 3, b 3" in run("inspect", "a")[1]


def test_a_file_of_another_program(run, tmp_path):
    name = "\x1b[2Jname"
    safetensors.numpy.save_file({name: np.zeros((2, 3))}, tmp_path / "a")
    code, out, err = run("inspect", "a")
    assert (code, err) == (0, "")
    assert "a safetensors file of another program, without a checksum" in out
    assert r"\x1b[2Jname  float64  2 x 3" in out


@pytest.mark.parametrize("spoil", [lambda b: b[:-1], lambda b: b[:-1] + b"x", lambda b: b""])
def test_damaged_files(spoil, run, tmp_path):
    ap.save("a", ap.Affine(2, 3).init())
    (tmp_path / "a").write_bytes(spoil((tmp_path / "a").read_bytes()))
    code, out, err = run("inspect", "a")
    assert (code, out) == (2, "")
    assert err.startswith("anyprop: a is ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"config": json.dumps({"\x1b[2J": "\x1b[2J" * 1000})},
        {"config": json.dumps({"final": {"test_accuracy": "\x1b[2J"}, "settings": 3})},
        {"optimizer": json.dumps({"kind": "\x1b[2J", "lr": {"a": [1, {}]}})},
        {"optimizer": '{"lr":' * 150 + "3" + "}" * 150},
        {"config": '{"lr":' * 250 + "3" + "}" * 250},
        {"config": '{"lr": "\\ud800"}'},
    ],
)
def test_hostile_metadata_reach_no_terminal(changes, run, tmp_path):
    ap.save("a", ap.Affine(2, 3).init())
    with Reader("a") as file:
        arrays, metadata = file.read(), dict(file.metadata)
    metadata.pop("checksum")
    write("a", arrays, metadata | changes)
    code, out, err = run("inspect", "a")
    assert code in (0, 2)
    assert len(out + err) < 10_000
    assert (out + err).replace("\n", "").isprintable()
