"""What cannot work is refused before the first step, in one sentence."""

import importlib.util

import numpy as np
import pytest

import anyprop as ap


class NeverStarted(ap.Callback):
    def on_start(self, run):
        pytest.fail("the run began")


def refused(problem, error, match, *, net=None, params=None, data=None, **options):
    with pytest.raises(error, match=match) as caught:
        ap.fit(
            problem.net if net is None else net,
            problem.params() if params is None else params,
            problem.data if data is None else data,
            **{
                "loss": problem.loss,
                "optimizer": problem.optimizer,
                "callbacks": [NeverStarted()],
                **options,
            },
        )
    assert "\n" not in str(caught.value)


def test_shapes(problem):
    x, t = problem.data
    refused(problem, ValueError, "the same number of rows", data=(x, t[:-1]))
    refused(problem, ValueError, r"data: x has shape \(30, 3\).*\(N, 4\)", data=(x[:, :3], t))
    flat = problem.backend.asarray(np.zeros(30))
    refused(problem, ValueError, r"\(N, 4\)", data=(flat, t))
    refused(problem, ValueError, "no examples", data=(x[:0, ...], t[:0]))
    refused(problem, TypeError, "pair", data=x)
    refused(problem, TypeError, "pair", data=(x, t, x))
    refused(problem, ValueError, "validation: x", validation=(x[:, :3], t))
    refused(problem, ValueError, "validation.*the same number of rows", validation=(x, t[:-1]))
    refused(problem, ValueError, "sample_weight", sample_weight=problem.backend.asarray([1.0]))


def test_scalars_are_no_data(problem):
    scalar = problem.backend.asarray(np.asarray(1.0))
    for net in (problem.net, ap.ReLU()):
        params = problem.with_(net=net).params()
        refused(problem, ValueError, "shape", net=net, params=params, data=(scalar, scalar))


def test_dtypes(problem):
    x = problem.backend.asarray(np.zeros((30, 4), dtype="int64"))
    refused(problem, TypeError, "int64.*float64", data=(x, problem.t))
    refused(problem, TypeError, "int64.*float64", validation=(x, problem.t))
    halves = problem.backend.asarray(np.zeros(30))
    refused(problem, TypeError, "data: labels must be integers", data=(problem.x, halves))


def test_namespaces(problem):
    other = ap.get_namespace("array_api_strict" if problem.backend.name == "numpy" else "numpy")
    x, t = (ap.to_namespace(array, other) for array in problem.data)
    names = "numpy.*array_api_strict|array_api_strict.*numpy|torch.*numpy|jax.*numpy"
    refused(problem, TypeError, names, data=(x, t))
    refused(problem, TypeError, names, data=(problem.x, t))
    refused(problem, TypeError, names, validation=(x, t))
    refused(problem, TypeError, names, sample_weight=other.ones(30))
    refused(problem, TypeError, "Array API", data=(problem.x, [0] * 30))


def test_numbers_in_x(problem):
    x = problem.numpy(problem.x).copy()
    x[4, 2], x[7, 1] = np.nan, -np.inf
    bad = (problem.backend.asarray(x), problem.t)
    refused(problem, ValueError, r"data: x\[4, 2\] is nan.*2 numbers", data=bad)
    refused(problem, ValueError, r"validation: x\[4, 2\] is nan", validation=bad)


def test_large_finite_numbers_whose_sum_overflows_pass(problem):
    huge = problem.backend.asarray(np.full((30, 4), 1e308))
    problem.with_(x=huge, loss=problem.loss).fit(steps=1)


def test_targets(problem):
    for label in (-1, 3):
        t = problem.numpy(problem.t).copy()
        t[5] = label
        bad = (problem.x, problem.backend.asarray(t))
        refused(problem, ValueError, f"data: label {label}", data=bad)
        refused(problem, ValueError, f"validation: label {label}", validation=bad)
    weights = ap.SoftmaxCrossEntropy(class_weight=[1.0, 1.0])
    refused(problem, ValueError, "2 entries for 3 classes", loss=weights)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("own", [False, True])
def test_numbers_in_t(problem, bad, own):
    class Own(ap.MeanSquaredError):
        """Checks no targets, as the base of all losses."""

        def check_targets(self, t, width):
            pass

    loss = Own() if own else ap.MeanSquaredError()
    t = np.zeros((30, 3))
    good = (problem.x, problem.backend.asarray(t.copy()))
    t[5, 2] = bad
    spoiled = (problem.x, problem.backend.asarray(t))
    refused(problem, ValueError, r"data: .*t\[5, 2\] is", data=spoiled, loss=loss)
    refused(
        problem,
        ValueError,
        r"validation: .*t\[5, 2\] is",
        data=good,
        validation=spoiled,
        loss=loss,
    )
    with pytest.raises(ValueError, match=r"data: .*t\[5, 2\] is"):
        ap.evaluate(problem.net, problem.params(), spoiled, loss=loss)


def test_examples_without_a_weight(problem):
    first = ap.SoftmaxCrossEntropy(class_weight=[0.0, 1.0, 1.0])
    t = problem.numpy(problem.t)
    of_first = np.flatnonzero(t == 0)
    x = problem.backend.asarray(problem.numpy(problem.x)[of_first])
    weightless = (x, problem.backend.asarray(t[of_first]))
    match = "no example has a weight above 0"
    refused(problem, ValueError, f"data: {match}", data=weightless, loss=first)
    refused(problem, ValueError, f"validation: {match}", validation=weightless, loss=first)
    weights = problem.backend.asarray((t == 0) * 1.0)  # each has some, the products none
    refused(problem, ValueError, f"data: {match}", sample_weight=weights, loss=first)


def test_weights_whose_sum_overflows(problem):
    """Divided by an infinite sum, each would weigh nothing, and nothing would be learnt."""
    match = "data: the sum of the weights is infinite"
    huge = np.full(30, 1e308)
    refused(problem, ValueError, match, sample_weight=problem.backend.asarray(huge))
    heavy = ap.SoftmaxCrossEntropy(class_weight=[1e308, 1e308, 1e308])
    refused(problem, ValueError, match, loss=heavy)
    host = problem.numpy(problem.x), problem.numpy(problem.t), huge
    with pytest.raises(ValueError, match=match):
        problem.fit(data=ap.Source(host))
    with pytest.raises(ValueError, match=match):
        ap.evaluate(problem.net, problem.params(), ap.Source(host), loss=problem.loss)
    wide = problem.backend.asarray(np.full(30, 1e39))  # which float32 cannot hold
    x = problem.backend.asarray(problem.numpy(problem.x).astype("float32"))
    narrow = (x, problem.t)
    params = problem.params(dtype="float32")
    refused(problem, ValueError, match, params=params, data=narrow, sample_weight=wide)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"callbacks": ap.EarlyStopping()}, "callbacks must be a sequence.*brackets"),
        ({"callbacks": ap.EarlyStopping}, r"callbacks must be a sequence.*the class Early"),
        ({"callbacks": None}, "callbacks must be a sequence.*NoneType"),
        ({"callbacks": [ap.EarlyStopping]}, r"the class EarlyStopping; write EarlyStopping\("),
        ({"callbacks": [print]}, "each of callbacks must be an object of a class"),
        ({"callbacks": "abc"}, "each of callbacks must be an object of a class.*str"),
        ({"loss": "mse"}, "loss must be one such as.*, not 'mse'"),
        ({"loss": ap.MeanSquaredError}, r"the class MeanSquaredError; write"),
        ({"optimizer": "adam"}, "optimizer must be one such as.*, not 'adam'"),
        ({"optimizer": ap.Adam}, r"the class Adam; write Adam\("),
        ({"net": ap.ReLU}, r"the class ReLU; write ReLU\("),
        ({"net": "net"}, "net must be a layer"),
        ({"validation": 0.1}, "validation must be a pair"),
        ({"validation": True}, "validation must be a pair"),
        ({"validation": {"x": 1, "t": 2}}, "validation must be a pair"),
        ({"state": {}}, "state must be what optimizer.init"),
        ({"progress": "yes"}, "progress must be True or False"),
        ({"allow_changes": 1}, "allow_changes must be True or False"),
    ],
)
def test_arguments_of_the_wrong_kind(problem, options, match):
    refused(problem, TypeError, match, **options)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"allow_changes": True}, "allow_changes says how to resume"),
        ({"epochs": 2, "steps": 3}, "not both"),
    ],
)
def test_settings_that_would_have_no_effect(problem, options, match):
    refused(problem, ValueError, match, **options)


def test_a_state_beside_a_checkpoint(problem, tmp_path):
    state = problem.optimizer.init(problem.params())
    refused(problem, ValueError, "state or resume, not both", state=state, resume=tmp_path)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_sample_weights_are_finite_and_not_negative(problem, value):
    w = problem.backend.asarray(np.where(np.arange(30) == 9, value, 1.0))
    refused(problem, ValueError, "sample_weight", sample_weight=w)


@pytest.mark.parametrize("name", ["epochs", "steps", "batch_size", "accumulate", "report_every"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-3, ValueError), (2.5, TypeError)])
def test_counts(problem, name, value, error):
    refused(problem, error, name, **{name: value})


def test_compile(problem):
    refused(problem, TypeError, "compile must be True or False, not 1", compile=1)
    words = "torch_backend must be a name such as 'inductor', not the class ReLU"
    refused(problem, TypeError, words, torch_backend=ap.ReLU)
    words = "a torch_backend or compile=False, not both"
    refused(problem, ValueError, words, compile=False, torch_backend="inductor")


@pytest.mark.parametrize("seed", [-1, 0.5, "a", True, None])
def test_seeds(problem, seed):
    refused(problem, ValueError, "seed", seed=seed)


def test_parameters_of_another_network(problem):
    other = ap.MLP([4, 5, 3])
    refused(
        problem, ValueError, r"0.W \(4, 6\).*0.W \(4, 5\)", params=problem.with_(net=other).params()
    )
    refused(problem, TypeError, "net.init", params=problem.params().named())
    norm = ap.BatchNorm(4)
    params = problem.with_(net=norm).params()
    params = ap.Parameters(params.layout, params.flat)
    refused(problem, ValueError, "running statistics", net=norm, params=params)


def test_a_state_of_another_optimizer_or_network(problem):
    params = problem.params()
    sgd = ap.SGD().init(params)
    refused(problem, ValueError, "another optimizer", state=sgd)
    other = problem.optimizer.init(problem.with_(net=ap.MLP([4, 5, 3])).params())
    with pytest.raises(ValueError, match="structure"):
        problem.fit(state=other)


def test_a_state_that_cannot_be_continued_from(problem):
    def state(optimizer=problem.optimizer, dtype="float64", **changes):
        return optimizer.init(problem.params(dtype=dtype))._replace(**changes)

    masked = ap.RMSProp(weight_decay=0.1, decay_biases=False)
    refused(problem, TypeError, "float64.*float32", state=state(dtype="float32"))
    refused(problem, ValueError, "has no decay_mask", state=state(), optimizer=masked)
    refused(problem, ValueError, "has a decay_mask", state=state(masked))
    refused(problem, ValueError, "state.step must be a whole", state=state(step=-1))
    refused(problem, ValueError, "state.step must be a whole", state=state(step=1.5))
    for scale in (-0.1, np.nan, np.inf):
        refused(problem, ValueError, "lr_scale must be zero or", state=state(lr_scale=scale))
    refused(problem, TypeError, "lr_scale must be a number", state=state(lr_scale=None))


def test_progress_without_tqdm(problem, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "tqdm" else find(name, *a)
    )
    refused(problem, ImportError, r"anyprop\[cli\]", progress=True)


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([30], "outside 0..29"),
        ([-1], "outside 0..29"),
        ([], "vector of row indices"),
        ([0.5], "vector of row indices"),
        ([True], "vector of row indices"),
        ([[1, 2]], "vector of row indices"),
    ],
)
def test_rows_that_are_none(problem, rows, match):
    with pytest.raises(ValueError, match=match):
        problem.fit(batches=lambda n, batch_size, epoch: [np.asarray(rows)])


def test_no_batches(problem):
    with pytest.raises(ValueError, match="no batch for epoch 0"):
        problem.fit(steps=5, batches=lambda n, batch_size, epoch: [])


def test_rows_may_be_a_list_or_of_a_small_dtype(problem):
    results = [
        problem.fit(batches=lambda n, batch_size, epoch, rows=rows: [rows])
        for rows in ([0, 1, 2], np.asarray([0, 1, 2], dtype="uint8"), np.arange(3))
    ]
    for result in results[1:]:
        assert result.history.losses == results[0].history.losses


@pytest.mark.parametrize("name", ["on_epoch_end", "on_train_begin", "on_epochs"])
def test_a_callbacks_method_that_would_never_be_called(problem, name):
    made = type("Mine", (ap.Callback,), {name: lambda self, run: None})
    refused(
        problem, TypeError, rf"Mine\.{name} would never.*on_epoch, .*on_start", callbacks=[made()]
    )


def test_a_callbacks_state_that_would_never_be_restored(problem):
    made = type("Mine", (ap.Callback,), {"get_state": lambda self: {"n": 1}})
    refused(problem, TypeError, "Mine has get_state but no set_state", callbacks=[made()])


@pytest.mark.parametrize("name", ["stop", "stop_training", "learning_rate"])
def test_a_callback_sets_nothing_that_has_no_effect(problem, name):
    class Sets(ap.Callback):
        def on_start(self, run):
            setattr(run, name, True)

    refused(problem, AttributeError, f"'Run' object.*'{name}'", callbacks=[Sets()])
