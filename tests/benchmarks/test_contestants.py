"""All contestants compute the same; what they are compared with comes from none of these tests."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest

from benchmarks.conduct import conduct
from benchmarks.contestants import floors
from benchmarks.contestants.registry import CONTESTANTS
from benchmarks.reference import difference, reference
from benchmarks.runner import NotRunError
from benchmarks.workloads import (
    EPOCH,
    STEP,
    TRAINING,
    UPDATE,
    WORKLOADS,
    Problem,
    Workload,
)

HERE = {
    "numpy": [
        *("anyprop-numpy", "anyprop-numpy-compiled", "anyprop-numpy-compiled-numba"),
        *("anyprop-numpy-loop", "numpy-book", "sklearn", "floor-products", "floor-rate"),
    ],
    "torch": ["anyprop-torch", "torch", "torch-loader"],
    "jax": ["anyprop-jax", "anyprop-jax-compiled", "anyprop-jax-loop", "jax-jit", "jax-scan"],
}
LATER = {"torch-compile", "torch-graph", "floor-streams", "anyprop-cupy", "anyprop-cupy-compiled"}
LATER |= {"anyprop-torch-compiled", "anyprop-cupy-loop"}


def problem(name, **changes):
    workload = WORKLOADS[name]
    workload = Workload(**{**vars(workload), **changes})
    return Problem(workload, workload.make(workload))


def short_epoch(workload):
    """Return an epoch of 12 batches."""
    rng = np.random.default_rng(1)
    n = 12 * workload.batch_size
    arrays = WORKLOADS["article"].make(WORKLOADS["article"])
    x, t = arrays["x"].reshape(-1, 784)[:n], arrays["t"].reshape(-1)[:n]
    return {"flat": arrays["flat"], "x": x, "t": t, "order": rng.permutation(n)}


def few_digits(workload):
    """Return a training that is tested by the digits it learns."""
    arrays = short_epoch(workload)
    return {**arrays, "test_x": arrays["x"], "test_t": arrays["t"]}


@pytest.fixture(scope="module")
def problems():
    return [
        problem("article", batches=20),
        problem("tiny", sizes=(4, 8, 3)),
        problem("update-10k"),
        problem("epoch", make=short_epoch, batch_size=20),
        problem("training", make=few_digits, batch_size=20, epochs=10),
    ]


def check(name, problems):
    contestant, kinds = CONTESTANTS[name], []
    for problem in problems:
        maker = contestant.makers.get(problem.workload.kind)
        if maker is None:
            continue
        kinds.append(problem.workload.kind)
        runner = maker(problem, "cpu")
        runner.run(runner.chunk)
        values = runner.check(problem.workload.checked)
        expected = reference(problem, contestant.optimizer)
        if contestant.side != "floor":
            assert values
        assert difference(values, expected) <= problem.workload.tolerance
        assert runner.check(problem.workload.checked) == values
    assert set(kinds) == set(contestant.makers)


@pytest.mark.parametrize("name", HERE["numpy"])
def test_on_numpy(name, problems):
    check(name, problems)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("name", HERE["torch"])
def test_on_torch(name, problems):
    check(name, problems)


@pytest.mark.needs("jax")
@pytest.mark.parametrize("name", HERE["jax"])
def test_on_jax(name, problems):
    check(name, problems)


def test_no_contestant_is_forgotten():
    assert {name for names in HERE.values() for name in names} | LATER == set(CONTESTANTS)


def test_the_floor_of_the_update_is_one_addition_for_each_vector():
    given = problem("update-10k")
    runner = CONTESTANTS["floor-streams"].makers[UPDATE](given, "cpu")
    runner.reset()
    runner.run(2)
    p, h = runner._carry
    np.testing.assert_allclose(p, given.arrays["p"] + 2 * given.arrays["g"], rtol=1e-5)
    np.testing.assert_allclose(h, 2 * given.arrays["g"], rtol=1e-6)


def test_the_floor_of_a_step_has_all_products_but_that_of_the_data():
    calls = floors._products(problem("article", batches=1), np.matmul, lambda n, m: np.ones((n, m)))
    flops = sum(2 * a.shape[0] * a.shape[1] * b.shape[1] for _, a, b, _ in calls)
    assert flops == 2 * 100 * (2 * (784 * 200 + 200 * 200 + 200 * 10) + 200 * 200 + 200 * 10)
    for function, a, b, out in calls:
        assert function(a, b).shape == out.shape


@pytest.mark.parametrize("name", [w.name for w in WORKLOADS.values() if w.kind == STEP])
def test_the_floor_of_the_rate_has_the_operations_of_the_products(name):
    given = Problem(WORKLOADS[name], {})
    calls = floors._products(given, np.matmul, lambda n, m: np.broadcast_to(np.float32(), (n, m)))
    of_step = sum(2 * a.shape[0] * a.shape[1] * b.shape[1] for _, a, b, _ in calls)
    steps, times, inner = floors._large(given)
    assert times * 2 * floors.LARGE * inner * floors.LARGE == pytest.approx(
        steps * of_step, rel=1e-3
    )
    assert floors.LARGE / 2 < inner < 2 * floors.LARGE


def test_the_rate_is_that_of_the_fastest_library(monkeypatch):
    done, seconds = [], {"slow": 2.0, "fast": 1.0, "slower": 3.0}
    products = [lambda name=name: done.append(name) for name in seconds]
    monkeypatch.setattr(floors, "_large_products", lambda inner, device: products)
    taken = dict(zip(products, seconds.values(), strict=True))
    monkeypatch.setattr(floors, "_seconds", taken.__getitem__)
    floors.rate(problem("tiny"), "cpu").run(floors._large(problem("tiny"))[0])
    assert done == ["fast"]


@pytest.mark.parametrize(
    "library",
    ["numpy", *(pytest.param(name, marks=pytest.mark.needs(name)) for name in ("torch", "jax"))],
)
def test_each_library_computes_the_large_product(library, monkeypatch):
    find, others = importlib.util.find_spec, {"torch", "jax"} - {library}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in others else find(name)
    )
    monkeypatch.setattr(floors, "LARGE", 16)
    *_, last = floors._large_products(8, "cpu")
    result = last()
    if library == "numpy":
        result, _ = result
    assert result.shape == (16, 16)
    assert float(result[1, 2]) == pytest.approx(8e-6)


@pytest.mark.parametrize(
    ("name", "workload", "settling"),
    [
        ("anyprop-numpy-loop", "tiny", 20_001),
        ("anyprop-numpy-compiled", "tiny", 20_001),
        ("anyprop-numpy-compiled", "update-10k", 20_001),
        ("anyprop-numpy-loop", "article", 0),
        ("anyprop-numpy-compiled", "update-1m", 0),
        ("anyprop-numpy", "tiny", 0),
    ],
)
def test_small_networks_are_measured_as_they_are_in_a_long_run(name, workload, settling):
    given = problem(workload)
    runner = CONTESTANTS[name].makers[given.workload.kind](given, "cpu")
    assert runner.settling == settling


def test_a_mistake_is_noticed(problems):
    """A learning rate that is a tenth off fails every workload."""
    for given in problems:
        workload = given.workload
        if workload.kind == TRAINING:
            continue
        wrong = Problem(Workload(**{**vars(workload), "lr": 1.1 * workload.lr}), given.arrays)
        runner = CONTESTANTS["numpy-book"].makers[workload.kind](wrong, "cpu")
        off = difference(runner.check(workload.checked), reference(given, "rmsprop"))
        assert off > workload.tolerance, workload.name


def test_a_training_that_falls_short_is_noticed(problems):
    short = Workload(**{**vars(problems[-1].workload), "epochs": 1, "lr": 1e-9})
    given = Problem(short, problems[-1].arrays)
    runner = CONTESTANTS["anyprop-numpy"].makers[TRAINING](given, "cpu")
    (missing,) = runner.check(1)
    assert 0.5 < missing < 0.98
    assert difference([missing], reference(given, "adam")) > given.workload.tolerance


def test_a_difference_is_relative_and_nan_is_one():
    assert difference([1.01, 2.0], [1.0, 2.0]) == pytest.approx(0.01)
    assert difference([0.001], [0.0]) == pytest.approx(0.1)
    assert difference([], [1.0]) == 0.0
    assert not difference([1.0, float("nan")], [1.0, 2.0]) <= 1e9
    assert not difference([float("nan"), 1.0], [1.0, 2.0]) <= 1e9


def test_workloads_are_of_four_kinds_and_named_after_themselves():
    assert {w.kind for w in WORKLOADS.values()} == {STEP, UPDATE, EPOCH, TRAINING}
    assert all(name == workload.name for name, workload in WORKLOADS.items())
    assert all(workload.title for workload in WORKLOADS.values())


def test_arrays_outlive_a_file(tmp_path):
    given = problem("tiny")
    given.save(tmp_path / "arrays")
    again = Problem.load(given.workload, tmp_path / "arrays")
    assert again.arrays.keys() == given.arrays.keys()
    for name, array in given.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)
        assert again.arrays[name].dtype == array.dtype


def test_who_cannot_take_part_is_listed_with_the_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    outcome = conduct("tiny", ["anyprop-numpy", "sklearn", "anyprop-cupy"], seconds=0.01)
    entries = outcome.entries
    assert entries["anyprop-numpy"].timing is not None
    assert (entries["sklearn"].status, entries["sklearn"].reason) == (
        "not run",
        "sklearn is not installed",
    )
    assert entries["anyprop-cupy"].reason == "it computes on a GPU only"
    assert list(outcome.timings) == ["anyprop-numpy"]


def not_run(name, problem):
    with pytest.raises(NotRunError) as caught:
        CONTESTANTS[name].makers[problem.workload.kind](problem, "cuda")
    return str(caught.value)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("name", ["torch", "torch-graph", "floor-products"])
def test_without_a_gpu_pytorch_does_not_take_part(name, problems, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert not_run(name, problems[0]) == "PyTorch finds no CUDA device"


@pytest.mark.needs("jax")
def test_without_a_gpu_jax_does_not_take_part(problems, monkeypatch):
    monkeypatch.setattr("jax.default_backend", lambda: "cpu")
    assert not_run("jax-jit", problems[0]) == "JAX finds no GPU; install its CUDA plugin"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(f"anyprop-{library}{kind}", marks=pytest.mark.needs(library))
        for library, kind in [("torch", ""), ("torch", "-compiled"), ("jax", ""), ("jax", "-loop")]
    ],
)
def test_without_a_gpu_anyprop_does_not_compute_on_the_cpu_instead(name, problems, monkeypatch):
    monkeypatch.setattr("benchmarks.contestants.ours.devices", lambda xp: ["cpu", "cpu:0"])
    assert not_run(name, problems[0]) == f"{name.split('-')[1]} finds no GPU"


def test_without_cupy_its_contestants_do_not_take_part(problems, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "cupy is not installed; install anyprop[cuda" in not_run("anyprop-cupy", problems[0])


def test_wrong_numbers_are_not_measured(monkeypatch):
    monkeypatch.setattr("benchmarks.conduct.reference", lambda problem, optimizer: [0.1])
    outcome = conduct("tiny", ["numpy-book"], seconds=0.01)
    entry = outcome.entries["numpy-book"]
    assert entry.status == "failed"
    assert entry.reason.startswith("its numbers differ from the reference by ")
    assert entry.timing is None
