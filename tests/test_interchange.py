"""Other libraries load what is given to them, compute the same, and give it back."""

from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy

import anyprop as ap
from anyprop import interchange
from anyprop.layers.base import Layer
from anyprop.layout import Spec
from anyprop.testing.layer_cases import LayerCase
from anyprop.testing.place import Place
from arrays import assert_same_parameters

NET = ap.Sequential(
    *(ap.Affine(4, 6, bias=False), ap.BatchNorm(6), ap.ReLU(), ap.Dropout(0.25)),
    *(ap.Residual(ap.Sequential(ap.Affine(6, 6), ap.Tanh())), ap.LayerNorm(6), ap.Affine(6, 3)),
)


def params_of(backend, net=NET, dtype="float64"):
    return LayerCase("", net).params(backend, dtype)


def torch_net():
    import torch
    from torch import nn

    class Residual(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    return nn.Sequential(
        *(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.25)),
        *(Residual(nn.Linear(6, 6), nn.Tanh()), nn.LayerNorm(6), nn.Linear(6, 3)),
    ).to(torch.float64)


@pytest.mark.needs("torch")
def test_torch_takes_the_file_and_computes_the_same(rng, tmp_path):
    import torch
    from safetensors.torch import load_file

    params = params_of(Place("numpy"))
    interchange.save_torch(tmp_path / "net.safetensors", NET, params)
    module = torch_net()
    module.load_state_dict(load_file(tmp_path / "net.safetensors"))
    x = rng.standard_normal((5, 4))
    y = module.eval()(torch.asarray(x)).detach().numpy()
    np.testing.assert_allclose(ap.predict(NET, params, x), y, rtol=1e-12)


@pytest.mark.needs("torch")
def test_networks_of_torch_come_over(rng, tmp_path):
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(3)
    module = torch_net()
    with torch.no_grad():
        module(torch.asarray(rng.standard_normal((50, 4))))  # moves the running statistics
    save_file(module.state_dict(), tmp_path / "net.safetensors")
    x = rng.standard_normal((5, 4))
    y = module.eval()(torch.asarray(x)).detach().numpy()
    for given in (module.state_dict(), tmp_path / "net.safetensors"):
        params = interchange.from_torch(NET, given)
        np.testing.assert_allclose(ap.predict(NET, params, x), y, rtol=1e-12)


def test_there_and_back(backend, tmp_path):
    params = params_of(backend)
    interchange.save_torch(tmp_path / "net.safetensors", NET, params)
    place = {"xp": backend.xp, "device": backend.device}
    for given in (interchange.to_torch(NET, params), tmp_path / "net.safetensors"):
        assert_same_parameters(interchange.from_torch(NET, given, **place), params)
    narrow = interchange.from_torch(NET, given, dtype="float32", **place)
    assert backend.to_numpy(narrow.flat).dtype == "float32"


def test_the_file_is_a_plain_one(tmp_path):
    interchange.save_torch(tmp_path / "net.safetensors", NET, params_of(Place("numpy")))
    arrays = safetensors.numpy.load_file(tmp_path / "net.safetensors")
    assert arrays["0.weight"].shape == (6, 4)
    assert "1.running_var" in arrays


def test_what_is_given_does_not_share_memory():
    params = params_of(Place("numpy"))
    before = params.flat.copy()
    for array in interchange.to_torch(NET, params).values():
        array[...] = 0.0
    for array in interchange.to_sklearn(ap.MLP([2, 2]), ap.MLP([2, 2]).init())[0]:
        array[...] = 0.0
    np.testing.assert_array_equal(params.flat, before)


WEIGHT, BIAS = np.zeros((3, 2)), np.zeros(3)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"weight": WEIGHT}, "lacks 'bias' that net needs, and has nothing that"),
        ({"weight": WEIGHT, "bias": BIAS, "0.bias": BIAS}, "lacks nothing .* has '0.bias' that"),
        ({"weight": WEIGHT.T, "bias": BIAS}, r"weight has shape \(2, 3\), expected \(3, 2\)"),
        ({"weight": WEIGHT, "bias": BIAS[None]}, r"bias has shape \(1, 3\), expected \(3,\)"),
        ({"weight": WEIGHT.astype("f4"), "bias": BIAS}, "differ in dtype: float32, float64; cast"),
        ({"weight": WEIGHT.astype("i1"), "bias": BIAS.astype("i1")}, "are int8, which parameters"),
    ],
)
def test_state_dictionaries_of_other_networks(given, match):
    with pytest.raises(ValueError, match=match):
        interchange.from_torch(ap.Affine(2, 3), given)


def test_a_module_is_no_state_dictionary():
    module = SimpleNamespace(state_dict=lambda: {"weight": WEIGHT, "bias": BIAS})
    with pytest.raises(TypeError, match=r"is .*Namespace; pass what its state_dict\(\) returns"):
        interchange.from_torch(ap.Affine(2, 3), module)


@pytest.mark.parametrize("given", [[("weight", np.zeros(99))], 3])
def test_what_is_neither_a_dictionary_nor_a_path_is_not_written_out(given):
    expected = r"dict of arrays, or the path of a safetensors file, not builtins\.(list|int)\.$"
    with pytest.raises(TypeError, match=expected):
        interchange.from_torch(ap.Affine(2, 3), given)


def test_arrays_of_several_dtypes_are_cast_to_one_that_is_asked_for():
    """As those of a module in half precision, whose norms keep float32."""
    given = {"weight": np.asarray([[0.1], [2.0]], "f2"), "bias": np.asarray([1 / 3, 4.0], "f8")}
    params = interchange.from_torch(ap.Affine(1, 2), given, dtype="float32")
    wanted = np.asarray([np.float16(0.1), 2.0, 1 / 3, 4.0], "f4")
    np.testing.assert_array_equal(params.flat, wanted)
    given["bias"][0] = 1e300
    with pytest.raises(OverflowError, match="does not fit in float32"):
        interchange.from_torch(ap.Affine(1, 2), given, dtype="float32")


def test_parameters_are_no_whole_numbers():
    with pytest.raises(TypeError, match="must be a floating dtype .* not 'int32'"):
        interchange.from_torch(ap.Affine(2, 3), {"weight": WEIGHT, "bias": BIAS}, dtype="int32")


def test_layers_of_your_own_have_no_name_in_torch():
    class Mine(Layer):
        def specs(self):
            return {"c": Spec((2,), 0.0)}

        def __repr__(self):
            return "Mine()"

    with pytest.raises(TypeError, match=r"Mine\(\) is not one of anyprop's layers"):
        interchange.to_torch(Mine(), Mine().init())
    with pytest.raises(ValueError, match="params do not match net"):
        interchange.to_torch(NET, Mine().init())


ACTIVATIONS = {"relu": "relu", "tanh": "tanh", "logistic": "sigmoid", "identity": "identity"}


def sklearn_fitted(activation, x, t):
    from sklearn.neural_network import MLPClassifier

    # No epoch improves by so much: it stops after two, and does not warn of stopping too early.
    options = {"tol": 1e9, "n_iter_no_change": 1, "random_state": 0}
    return MLPClassifier([5, 6], activation, solver="sgd", **options).fit(x, t)


@pytest.mark.parametrize(("theirs", "ours"), ACTIVATIONS.items())
def test_sklearn_and_back(theirs, ours, rng):
    x, t = rng.standard_normal((40, 4)), rng.integers(0, 3, 40)
    classifier = sklearn_fitted(theirs, x, t)
    net, params = interchange.from_sklearn(classifier)
    assert net == ap.MLP([4, 5, 6, 3], ours)
    p = ap.Softmax().forward(params, ap.predict(net, params, x))[0]
    np.testing.assert_allclose(p, classifier.predict_proba(x), rtol=1e-10)

    other = net.init(seed=3, dtype="float64")
    classifier.coefs_, classifier.intercepts_ = interchange.to_sklearn(net, other)
    p = ap.Softmax().forward(other, ap.predict(net, other, x))[0]
    np.testing.assert_allclose(p, classifier.predict_proba(x), rtol=1e-10)


@pytest.mark.parametrize(
    ("net", "named"),
    [
        (ap.MLP([4, 3, 2], "gelu"), r"GELU\(\)"),
        (ap.MLP([4, 3, 2], norm="layer"), "LayerNorm"),
        (ap.MLP([4, 3, 3, 2], residual=True), "Residual"),
        (ap.Affine(2, 3, bias=False), "bias=False"),
        (ap.Sequential(ap.Affine(2, 3), ap.ReLU()), "ReLU"),
        (ap.Sequential(ap.ReLU(), ap.Affine(2, 3)), "ReLU"),
        (ap.Sequential(ap.Affine(2, 3), ap.Affine(3, 3)), "Affine"),
        (ap.ReLU(), "ReLU"),
        (
            ap.Sequential(ap.Affine(2, 2), ap.ReLU(), ap.Affine(2, 2), ap.Tanh(), ap.Affine(2, 2)),
            r"Tanh\(\)",
        ),
    ],
    ids=repr,
)
def test_networks_that_sklearn_cannot_have(net, named):
    with pytest.raises(ValueError, match=f"scikit-learn has no place for .*{named}"):
        interchange.to_sklearn(net, net.init())


def test_sklearn_gets_no_parameters_of_another_network():
    """Those of a deeper one have all the names that this network needs."""
    with pytest.raises(ValueError, match="params do not match net"):
        interchange.to_sklearn(ap.MLP([4, 2]), ap.MLP([4, 2, 2]).init())


def test_dropout_has_no_part_in_it(backend):
    net = ap.MLP([4, 3, 2], "tanh", dropout=0.5)
    params = net.init(seed=1, xp=backend.xp, device=backend.device)
    coefs, intercepts = interchange.to_sklearn(net, params)
    np.testing.assert_array_equal(coefs[1], backend.to_numpy(params[3].W))
    np.testing.assert_array_equal(intercepts[0], backend.to_numpy(params[0].b))


def test_what_is_no_fitted_perceptron():
    with pytest.raises(
        TypeError, match="is not a fitted perceptron of scikit-learn; call fit first"
    ):
        interchange.from_sklearn(3)
    W, b = np.ones((2, 2)), np.zeros(2)
    odd = SimpleNamespace(coefs_=[W], intercepts_=[b], activation="softmax")
    with pytest.raises(ValueError, match="activation is 'softmax', expected one of: .*relu"):
        interchange.from_sklearn(odd)
