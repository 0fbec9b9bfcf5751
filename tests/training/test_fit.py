"""fit does what a loop written by hand does, and looks at the device only when it reports."""

import itertools

import numpy as np
import pytest

import anyprop as ap
from anyprop.layers.base import Layer
from anyprop.network import noise_beside
from anyprop.testing.place import Place
from anyprop.training.batches import stream

from .conftest import make_problem


def by_hand(problem, batches, *, params=None, state=None, sample_weight=None, noise=None):
    """Train on batches of rows with nothing but `value_and_grad` and `update`."""
    gradient = ap.value_and_grad(problem.net, problem.loss, running=True)
    params = problem.params() if params is None else params
    state = problem.optimizer.init(params) if state is None else state
    x, t = problem.numpy(problem.x), problem.numpy(problem.t)
    losses = []
    for k, rows in enumerate(batches):
        value, grads, running = gradient(
            params,
            problem.backend.asarray(x[rows]),
            problem.backend.asarray(t[rows]),
            noise=None if noise is None else noise(params, k, len(rows)),
            sample_weight=None
            if sample_weight is None
            else problem.backend.asarray(sample_weight[rows]),
        )
        params, state = problem.optimizer.update(params, grads, state)
        params = params.replace(running=running)
        losses.append(float(value))
    return params, state, losses


def orders(epochs, seed=3):
    return [list(ap.batch_indices(30, 7, seed=seed, epoch=epoch)) for epoch in range(epochs)]


def assert_equal(problem, result, by_hand_result):
    params, state, losses = by_hand_result
    # The compiled step is the eager one bit for bit, but XLA rounds as it likes.
    tolerance = 1e-12 if problem.backend.name == "jax" else 0.0
    same = {"rtol": tolerance, "atol": tolerance}
    np.testing.assert_allclose(
        problem.numpy(result.params.flat), problem.numpy(params.flat), **same
    )
    if params.running is not None:
        np.testing.assert_allclose(
            problem.numpy(result.params.running), problem.numpy(params.running), **same
        )
    np.testing.assert_allclose(result.history.losses, losses, **same)
    assert result.state.step == state.step
    for name, slot in state.slots.items():
        np.testing.assert_allclose(
            problem.numpy(result.state.slots[name].flat), problem.numpy(slot.flat), **same
        )


def test_epochs(problem):
    result = problem.fit(epochs=3)
    assert_equal(problem, result, by_hand(problem, itertools.chain(*orders(3))))
    assert not result.interrupted
    assert len(result.history.losses) == 15


def test_steps(problem):
    result = problem.fit(steps=8)
    assert_equal(problem, result, by_hand(problem, list(itertools.chain(*orders(2)))[:8]))


def test_one_epoch_is_the_default(problem):
    assert len(problem.fit().history.losses) == 5


@pytest.mark.parametrize("report_every", [1, 2, 3, 1000])
def test_reports_change_nothing(problem, report_every):
    result = problem.fit(steps=9, report_every=report_every)
    assert_equal(problem, result, by_hand(problem, list(itertools.chain(*orders(2)))[:9]))


def test_a_batch_may_be_larger_than_the_data(problem):
    result = problem.fit(steps=2, batch_size=1000)
    rows = [next(iter(ap.batch_indices(30, 30, seed=3, epoch=epoch))) for epoch in range(2)]
    assert_equal(problem, result, by_hand(problem, rows))


def test_batches_of_your_own(problem):
    """The article draws each batch by the legacy generator that drew the weights before."""
    ours, theirs = np.random.RandomState(8), np.random.RandomState(8)
    asked = []

    def draw(n, batch_size, epoch):
        asked.append((n, batch_size, epoch))
        return (ours.choice(n, batch_size) for _ in range(n // batch_size))

    result = problem.fit(
        problem.net.init(
            ours, xp=problem.backend.xp, dtype="float64", device=problem.backend.device
        ),
        steps=6,
        batches=draw,
    )
    start = problem.net.init(
        theirs, xp=problem.backend.xp, dtype="float64", device=problem.backend.device
    )
    rows = [theirs.choice(30, 7) for _ in range(6)]
    assert_equal(problem, result, by_hand(problem, rows, params=start))
    assert asked == [(30, 7, 0), (30, 7, 1)]


def test_endless_batches_are_one_long_epoch(problem):
    def draw(n, batch_size, epoch):
        return (np.asarray([k % n]) for k in itertools.count())

    history = problem.fit(steps=50, batches=draw).history
    assert len(history.losses) == 50
    assert [record.epoch for record in history.epochs] == [1]


def test_sample_weight(problem):
    w = np.random.default_rng(0).exponential(size=30)
    result = problem.fit(epochs=2, sample_weight=problem.backend.asarray(w))
    assert_equal(problem, result, by_hand(problem, itertools.chain(*orders(2)), sample_weight=w))


def test_a_weight_of_two_is_an_example_that_comes_twice(problem):
    w = np.where(np.arange(30) % 3 == 0, 2.0, 1.0)
    weighted = problem.fit(
        epochs=3,
        sample_weight=problem.backend.asarray(w),
        batches=lambda n, batch_size, epoch: [np.arange(n)],
    )
    twice = np.repeat(np.arange(30), w.astype(int))
    repeated = problem.fit(epochs=3, batches=lambda n, batch_size, epoch: [twice])
    np.testing.assert_allclose(
        problem.numpy(weighted.params.flat), problem.numpy(repeated.params.flat), rtol=1e-12
    )


def test_accumulation(problem):
    whole, parts = problem.fit(epochs=3), problem.fit(epochs=3, accumulate=3)
    np.testing.assert_allclose(
        problem.numpy(parts.params.flat), problem.numpy(whole.params.flat), rtol=1e-10
    )
    np.testing.assert_allclose(parts.history.losses, whole.history.losses, rtol=1e-10)


NOISY = ap.Sequential(
    *(ap.Affine(4, 6, bias=False), ap.BatchNorm(6), ap.ReLU(), ap.Dropout(0.3)), ap.Affine(6, 3)
)


def test_dropout_and_batch_norm(problem):
    problem = problem.with_(net=NOISY)
    result = problem.fit(epochs=2)

    def noise(params, k, rows):
        rng = stream(3, k // 5, k % 5)
        return noise_beside(params, NOISY.noise(rng, (rows, 4)))

    wanted = by_hand(problem, itertools.chain(*orders(2)), noise=noise)
    assert_equal(problem, result, wanted)
    assert problem.numpy(result.params[1].mean).any()


@pytest.mark.parametrize("noisy", [False, True])
def test_backends_agree(problem, noisy):
    """The same seed gives NumPy's losses on every backend, dropout and running statistics included."""
    if noisy:
        problem = problem.with_(net=NOISY)
    host = problem.with_(
        backend=Place("numpy"), x=problem.numpy(problem.x), t=problem.numpy(problem.t)
    )
    result, wanted = (p.fit(epochs=4, validation=p.data) for p in (problem, host))
    np.testing.assert_allclose(result.history.losses, wanted.history.losses, rtol=1e-10)
    np.testing.assert_allclose(
        problem.numpy(result.params.flat), wanted.params.flat, rtol=0, atol=1e-10
    )
    for ours, theirs in zip(result.history.epochs, wanted.history.epochs, strict=True):
        np.testing.assert_allclose(ours.validation_loss, theirs.validation_loss, rtol=1e-10)
        assert ours.validation_accuracy == theirs.validation_accuracy


def test_training_goes_on_from_a_state(problem):
    """Two epochs at once, or one and then another with the same batches, are the same."""
    once = problem.fit(epochs=2)
    first = problem.fit(epochs=1)
    second = problem.fit(
        first.params,
        epochs=1,
        state=first.state,
        batches=lambda n, batch_size, epoch: ap.batch_indices(n, batch_size, seed=3, epoch=1),
    )
    np.testing.assert_array_equal(
        problem.numpy(second.params.flat), problem.numpy(once.params.flat)
    )
    assert second.state.step == once.state.step == 10


def test_the_callers_arrays_stay_as_they_are(problem):
    params = problem.params()
    state = problem.optimizer.init(params)
    held = [params.flat, state.slots["h"].flat, problem.x, problem.t]
    before = [problem.numpy(array).copy() for array in held]
    problem.fit(params, epochs=2, state=state, validation=problem.data)
    for array, was in zip(held, before, strict=True):
        np.testing.assert_array_equal(problem.numpy(array), was)
    assert state.step == 0


def test_records(problem):
    seen = []

    class Look(ap.Callback):
        def on_epoch(self, run):
            seen.append(
                ap.evaluate(problem.net, run.params, problem.data, loss=problem.loss, batch_size=4)
            )

    optimizer = ap.SGD(lr=lambda step: 0.5 / (1 + step))
    history = problem.fit(
        steps=13, optimizer=optimizer, validation=problem.data, callbacks=[Look()]
    ).history
    assert [(record.epoch, record.step) for record in history.epochs] == [(1, 5), (2, 10), (3, 13)]
    for record, evaluation in zip(history.epochs, seen, strict=True):
        np.testing.assert_allclose(record.validation_loss, evaluation.loss, rtol=1e-13)
        assert record.validation_accuracy == evaluation.accuracy
        assert record.lr == 0.5 / record.step  # of the last update, which followed step - 1 others
        assert record.seconds > 0
    # 30 rows in batches of 7: four full ones and one of 2.
    first, second = np.asarray(history.losses[:5]), np.asarray(history.losses[10:])
    sizes = np.asarray([7, 7, 7, 7, 2])
    np.testing.assert_allclose(history.epochs[0].train_loss, (first * sizes).sum() / 30, rtol=1e-14)
    np.testing.assert_allclose(history.epochs[2].train_loss, second.mean(), rtol=1e-14)


def test_the_learning_rate_may_be_an_array(problem):
    lr = problem.backend.asarray(np.asarray(0.25))
    records = problem.fit(optimizer=ap.SGD(lr=lr)).history.epochs
    assert records[0].lr == 0.25
    assert type(records[0].lr) is float


def test_no_validation_leaves_it_open(problem):
    record = problem.fit().history.epochs[0]
    assert record.validation_loss is None
    assert record.validation_accuracy is None


def test_validation_changes_nothing(problem):
    plain, validated = problem.fit(epochs=2), problem.fit(epochs=2, validation=problem.data)
    np.testing.assert_array_equal(
        problem.numpy(plain.params.flat), problem.numpy(validated.params.flat)
    )


@pytest.mark.needs("array_api_strict")
@pytest.mark.parametrize("steps", [10, 90])
def test_the_hot_path_reads_nothing_in_array_api_strict(steps, monkeypatch):
    import array_api_strict

    from backend_cases import CASES

    array = type(array_api_strict.asarray(1.0))
    names = ["__float__", "__bool__", "__int__", "__index__", "__complex__", "__array__"]
    reads = _count_calls(monkeypatch, [(array, name) for name in names])
    assert _reads_while_training(make_problem(CASES["array_api_strict"][0]), steps, reads) == 1


@pytest.mark.needs("torch")
@pytest.mark.parametrize("steps", [10, 90])
def test_the_hot_path_reads_nothing_in_torch(steps, monkeypatch):
    import torch

    from backend_cases import CASES

    names = ["__float__", "__bool__", "__int__", "__index__", "item", "tolist", "numpy", "cpu"]
    reads = _count_calls(monkeypatch, [(torch.Tensor, name) for name in names])
    # `to_host` is `cpu` and `numpy`: two calls for one transfer.
    assert _reads_while_training(make_problem(CASES["torch"][0]), steps, reads) == 2


def _count_calls(monkeypatch, targets):
    calls = []
    for owner, name in targets:
        original = getattr(owner, name, None)
        if original is not None:

            def counted(self, *args, _name=name, _original=original, **kwargs):
                calls.append(_name)
                return _original(self, *args, **kwargs)

            monkeypatch.setattr(owner, name, counted)
    return calls


def _reads_while_training(problem, steps, reads):
    class Count(ap.Callback):
        def on_start(self, run):
            reads.clear()

        def on_report(self, run):
            counts.append(len(reads))

    counts = []
    ap.fit(
        NOISY,
        problem.with_(net=NOISY).params(),
        problem.data,
        loss=ap.SoftmaxCrossEntropy(label_smoothing=0.1),
        optimizer=ap.RMSProp(lr=0.01, clip_global_norm=1.0, weight_decay=0.1, decay_biases=False),
        steps=steps,
        batches=lambda n, batch_size, epoch: itertools.cycle([np.arange(7), np.arange(9, 12)]),
        sample_weight=problem.backend.asarray(np.ones(30)),
        accumulate=2,
        report_every=1000,
        callbacks=[Count()],
    )
    return counts[0]


@pytest.mark.parametrize("noisy", [False, True])
def test_compiled_or_not_is_the_same(problem, noisy):
    if noisy:
        problem = problem.with_(net=NOISY)
    compiled, eager = (problem.fit(epochs=3, compile=compile) for compile in (True, False))
    assert_equal(problem, compiled, (eager.params, eager.state, eager.history.losses))


class Peeking(Layer):
    """A layer that looks at its numbers, which neither a recording nor a trace can."""

    def forward(self, params, x):
        return (x * 2.0 if float(x[0, 0]) > 0 else x), None

    def backward(self, params, residuals, dy):
        return dy, {}


def test_what_cannot_be_compiled_is_run_as_it_is_with_one_warning(problem):
    problem = problem.with_(net=ap.Sequential(ap.Affine(4, 3), Peeking()))
    params = problem.params()
    before = problem.numpy(params.flat).copy()
    eager = problem.fit(epochs=2, compile=False)
    if problem.backend.name in ("numpy", "jax"):
        with pytest.warns(RuntimeWarning, match="runs uncompiled: (it reads|JAX cannot)") as caught:
            result = problem.fit(params, epochs=2)
        assert len(caught) == 1
    else:
        result = problem.fit(params, epochs=2)
    assert_equal(problem, result, (eager.params, eager.state, eager.history.losses))
    np.testing.assert_array_equal(problem.numpy(params.flat), before)


def test_a_count_of_steps_stays_an_int(problem):
    assert type(problem.fit(steps=2).state.step) is int


def test_progress_shows_the_loss_and_every_step(problem, capsys):
    problem.fit(steps=8, progress=True, report_every=4)
    shown = capsys.readouterr().err
    assert "8/8" in shown
    assert "loss=" in shown
    problem.fit(steps=3)
    assert capsys.readouterr().err == ""
