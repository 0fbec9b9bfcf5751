"""`anyprop compare`: equal terms for all optimizers, and the article's own terms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import anyprop as ap

PNG = b"\x89PNG\r\n\x1a\n"


def read():
    return json.loads(Path("runs/compare/compare.json").read_text())["runs"]


def test_all_optimizers_get_the_same_start_and_batches(run, images):
    names = ["rmsprop", "rmsprop:0.01", "adagrad"]
    code, out, err = run("compare", *names, "--data", images, "--steps", "60")
    assert (code, err) == (0, "")
    assert Path("runs/compare/compare.png").read_bytes().startswith(PNG)
    runs = read()
    assert list(runs) == ["rmsprop, lr 0.001", "rmsprop, lr 0.01", "adagrad, lr 0.01"]
    assert len({tuple(r["losses"][:1]) for r in runs.values()}) == 1
    assert len({tuple(r["losses"]) for r in runs.values()}) == 3

    run("train", "--data", images, "--optimizer", "adagrad", "--steps", "60")
    alone = json.loads(Path("runs/train/history.json").read_text())
    assert runs["adagrad, lr 0.01"]["losses"] == alone["losses"]

    head, columns, *rows, wrote = out.splitlines()
    assert head == "36-200-200-3 network, float32 on numpy (cpu): 60 steps with each optimizer"
    assert columns.split("  ")[0] == "optimizer"
    assert [row.split()[:2] for row in rows] == [
        ["rmsprop", "0.001"],
        ["rmsprop", "0.01"],
        ["adagrad", "0.01"],
    ]
    mean = np.mean(runs["adagrad, lr 0.01"]["losses"][-50:])
    accuracy = runs["adagrad, lr 0.01"]["final"]["test_accuracy"]
    assert rows[2].split()[2:4] == [f"{mean:.4f}", f"{accuracy:.4f}"]
    assert wrote == f"wrote compare.json, compare.png into {Path('runs/compare')}"


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov"])
def test_default_learning_rates_suit_the_problem(name, run, images):
    run("compare", name, "--data", images, "--steps", "2")
    assert list(read()) == [f"{name}, lr 0.1"]


def test_an_optimizer_that_diverges_is_a_row_and_not_the_end(run, images):
    code, out, err = run("compare", "sgd:1e30", "adagrad", "--data", images, "--steps", "20")
    assert (code, err) == (0, "")
    assert [r["final"]["ended"] for r in read().values()] == ["diverged", "finished"]
    assert out.splitlines()[2].split()[-1] == "diverged"


def test_the_article_s_terms_are_the_article_s_algorithm(run, images):
    """Its listing, written out in NumPy without anything of ours, gives the same losses."""
    code, out, err = run(
        *("compare", "rmsprop", "adagrad", "--article", "--data", images),
        *("--steps", "40", "--hidden", "20,20", "--batch-size", "30", "--dtype", "float64"),
    )
    assert (code, err) == (0, "")
    told = " ".join(out.split())
    assert "10 lr in every weight that has a gradient" in told
    assert "Why it does not come back" in told
    assert max(map(len, out.splitlines())) <= 100
    runs = read()
    assert list(runs) == ["rmsprop, lr 0.1", "adagrad, lr 0.1"]
    for name, r in zip(("rmsprop", "adagrad"), runs.values(), strict=True):
        np.testing.assert_allclose(r["losses"], article(name, images), rtol=0, atol=1e-9)


def test_only_rmsprop_is_explained(run, images):
    _, out, _ = run("compare", "adagrad", "--article", "--data", images, "--steps", "2")
    assert "whatever its gradient" not in out


def article(name, images):
    (x_train, t_train), _ = ap.load_idx(images, one_hot_label=True, dtype="float64")
    rng = np.random.RandomState(8)  # the numbers that follow np.random.seed(8)
    params = {}
    for i, (d, m) in enumerate([(36, 20), (20, 20), (20, 3)], start=1):
        params[f"W{i}"] = 0.01 * rng.randn(d, m)
        params[f"b{i}"] = np.zeros(m)
    h = {key: np.zeros_like(value) for key, value in params.items()}
    losses = []
    for _ in range(40):
        mask = rng.choice(x_train.shape[0], 30)
        x, t = x_train[mask], t_train[mask]
        a1 = np.dot(x, params["W1"]) + params["b1"]
        z1 = np.where(a1 > 0, a1, 0)
        a2 = np.dot(z1, params["W2"]) + params["b2"]
        z2 = np.where(a2 > 0, a2, 0)
        a3 = np.dot(z2, params["W3"]) + params["b3"]
        e = np.exp(a3 - a3.max(axis=1, keepdims=True))
        y = e / e.sum(axis=1, keepdims=True)
        losses.append(-np.sum(t * np.log(y + 1e-7)) / len(x))
        d3 = y - t
        d2 = np.dot(d3, params["W3"].T) * (a2 > 0)
        d1 = np.dot(d2, params["W2"].T) * (a1 > 0)
        grads = {"W3": np.dot(z2.T, d3), "b3": d3.sum(axis=0)}
        grads |= {"W2": np.dot(z1.T, d2), "b2": d2.sum(axis=0)}
        grads |= {"W1": np.dot(x.T, d1), "b1": d1.sum(axis=0)}
        for key, g in grads.items():
            if name == "rmsprop":
                h[key] *= 0.99
                h[key] += (1 - 0.99) * g * g
            else:
                h[key] += g * g
            params[key] -= 0.1 * g / (np.sqrt(h[key]) + 1e-7)
    return losses
