"""What enters and leaves the library is converted exactly or refused by name."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

import anyprop as ap
from anyprop.backend import dtype_name
from jax_process import printed

NET = ap.MLP([2, 3, 2])
GIVEN = {"loss": ap.SoftmaxCrossEntropy(), "optimizer": ap.RMSProp(0.01)}
X = np.asarray([[1.0, 2.0], [3.0, 4.0], [0.5, -1.0], [2.0, 0.0]], "float32")
T = np.asarray([0, 1, 1, 0])

WHOLE = np.ma.masked_array(X)
HOLED = np.ma.masked_array(X, X > 2)
DOORS = {
    "fit": lambda x: ap.fit(NET, NET.init(), (x, T), **GIVEN),
    "evaluate": lambda x: ap.evaluate(NET, NET.init(), (x, T), loss=GIVEN["loss"]),
    "predict": lambda x: ap.predict(NET, NET.init(), x),
    "from_host": ap.from_host,
    "to_host": ap.to_host,
    "to_namespace": lambda x: ap.to_namespace(x, "numpy"),
    "value_and_grad": lambda x: ap.value_and_grad(NET, GIVEN["loss"])(NET.init(), x, T),
    "loss": lambda x: GIVEN["loss"].forward(x, T),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize("x", [WHOLE, HOLED], ids=["without a mask", "masked"])
def test_masked_arrays_are_refused_at_every_door(door, x):
    with pytest.raises(TypeError, match=r"is a masked array; fill or drop what is masked"):
        door(x)


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_kinds_of_ndarray_that_compute_otherwise_are_refused(door):
    with pytest.raises(TypeError, match=r"numpy.*matrix .*pass numpy.asarray"):
        door(X.view(np.matrix))


def test_mapped_files_are_arrays(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(
        ap.predict(NET, NET.init(), mapped), ap.predict(NET, NET.init(), X)
    )


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i4", ">u2"])
@pytest.mark.parametrize("turned", [slice(None), slice(None, None, -1)])
def test_any_layout_and_byte_order_is_carried_over(backend, dtype, turned):
    host = np.arange(6).reshape(2, 3).astype(dtype)[turned, turned]
    host.flags.writeable = False
    found = ap.to_host(ap.from_host(host, backend.xp, device=backend.device))
    assert found.dtype.isnative
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    assert found.tolist() == host.tolist()


@pytest.mark.parametrize(
    ("number", "dtype"),
    [
        (1e300, "float32"),
        (70000.0, "float16"),
        (2**40 + 5, "int32"),
        (2**40 + 5, "float16"),
        (-1, "uint8"),
        (np.nan, "int64"),
        (1e19, "int64"),
        (np.uint64(2**63), "int64"),
    ],
)
def test_numbers_that_do_not_fit_are_named(backend, number, dtype):
    with pytest.raises(OverflowError, match=rf"does not fit.*{dtype}"):
        ap.from_host(np.asarray([0, number]), backend.xp, dtype=dtype)


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_numbers_that_are_not_finite_stay_so(backend, number):
    found = ap.to_host(ap.from_host(np.asarray([number]), backend.xp, dtype="float32"))
    np.testing.assert_array_equal(found, [number])


@pytest.mark.needs("jax")
def test_whole_numbers_too_large_for_jax_without_64_bits():
    code = (
        "import numpy as np, anyprop as ap\n"
        "print(ap.to_namespace(np.asarray([5], 'uint64'), 'jax').dtype)\n"
        "for dtype in ('int64', 'uint64'):\n"
        "    try:\n        ap.to_namespace(np.asarray([7, 2**40 + 5], dtype), 'jax')\n"
        "    except OverflowError as error:\n        print(error)\n"
    )
    out = printed(code, bits64=False)
    assert out[0] == "uint32"
    for line in out[1:]:
        assert "1099511627781" in line
        assert "JAX_ENABLE_X64=1" in line
    assert len(out) == 3


@pytest.mark.needs("jax")
def test_importing_jax_leaves_numpys_global_random_state():
    code = (
        "import numpy as np, anyprop as ap\n"
        "np.random.seed(3)\nexpected = np.random.rand()\nnp.random.seed(3)\n"
        "ap.get_namespace('jax')\nassert np.random.rand() == expected\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "dtype", ["float3", "uint8", "int64", ">f4", "object", "bool", None, 3, "complex64"]
)
def test_parameters_are_floating_and_of_the_machines_byte_order(backend, dtype):
    if dtype == ">f4" and sys.byteorder == "big":
        pytest.skip("big-endian is the machine's own order")
    with pytest.raises((TypeError, ValueError), match=r"dtype.*float"):
        NET.init(xp=backend.xp, dtype=dtype)


@pytest.mark.parametrize("dtype", ["float3", 3, ["float32"]])
def test_what_is_no_dtype_is_named(backend, dtype):
    with pytest.raises(TypeError, match="dtype"):
        ap.from_host(X, backend.xp, dtype=dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32"])
def test_labels_of_any_whole_dtype_train_alike(backend, dtype):
    def trained(t):
        x = backend.asarray(X.astype("float32"))
        params = NET.init(seed=8, xp=backend.xp, device=backend.device)
        return ap.fit(NET, params, (x, backend.asarray(t)), seed=1, epochs=2, **GIVEN)

    given, usual = (trained(T.astype(kind)) for kind in (dtype, "int64"))
    np.testing.assert_allclose(given.history.losses, usual.history.losses, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int32", "int64", ">i4"])
def test_inputs_of_no_floating_dtype_are_named_with_advice_that_works(dtype):
    with pytest.raises(TypeError, match=r"cast x to float32") as caught:
        ap.fit(NET, NET.init(), (X.astype(dtype), T), **GIVEN)
    assert "net.init" not in str(caught.value)
    ap.fit(NET, NET.init(), (X.astype(dtype).astype("float32"), T), epochs=1, **GIVEN)


def test_another_floating_dtype_is_followed_by_init():
    with pytest.raises(TypeError, match=r"net.init\(dtype='float64'\)"):
        ap.fit(NET, NET.init(), (X.astype("float64"), T), **GIVEN)
    ap.fit(NET, NET.init(dtype="float64"), (X.astype("float64"), T), epochs=1, **GIVEN)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("from_file", [True, False])
def test_bfloat16_weights_of_pytorch_are_read(from_file, tmp_path):
    import torch
    from safetensors.torch import save_file

    weights = torch.nn.Linear(2, 3).to(torch.bfloat16).state_dict()
    source = weights
    if from_file:
        source = tmp_path / "b.safetensors"
        save_file(weights, source)
    params = ap.interchange.from_torch(ap.Affine(2, 3), source, dtype="float32")
    np.testing.assert_array_equal(params.W, weights["weight"].float().numpy().T)
    assert params.b.dtype == np.float32


def test_bfloat16_parameters_are_made_where_the_backend_has_it(backend):
    if backend.name not in ("torch", "jax"):
        with pytest.raises(TypeError, match="bfloat16"):
            NET.init(xp=backend.xp, dtype="bfloat16")
        return
    params = NET.init(xp=backend.xp, dtype="bfloat16", device=backend.device)
    assert dtype_name(params.flat) == "bfloat16"
    assert ap.to_host(params.flat).dtype == np.float32
    assert dtype_name(ap.to_namespace(params.flat, backend.xp)) == "bfloat16"


def test_what_rounds_to_infinity_in_bfloat16_is_refused(backend):
    if backend.name not in ("torch", "jax"):
        pytest.skip("this backend has no bfloat16")
    largest = np.asarray([0x7F7F7FFF], "uint32").view("float32")  # that is rounded to a number
    for sign in (1, -1):
        fits = ap.from_host(sign * largest, backend.xp, dtype="bfloat16")
        assert np.isfinite(ap.to_host(fits)).all()
        with pytest.raises(OverflowError, match="does not fit in bfloat16"):
            ap.from_host(sign * np.nextafter(largest, np.inf), backend.xp, dtype="bfloat16")
    assert ap.to_host(ap.from_host([np.inf], backend.xp, dtype="bfloat16")).tolist() == [np.inf]


def test_bfloat16_parameters_are_refused_by_save(backend, tmp_path):
    if backend.name not in ("torch", "jax"):
        pytest.skip("this backend has no bfloat16")
    params = NET.init(xp=backend.xp, dtype="bfloat16")
    with pytest.raises(TypeError, match="bfloat16.*float32"):
        ap.save(tmp_path / "a", params, net=NET)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("activation", [["relu"], None, 3, {"relu"}])
def test_what_is_no_activation_is_named(activation):
    with pytest.raises(TypeError, match="activation must be a name"):
        ap.MLP([2, 3, 2], activation)


@pytest.mark.parametrize("sizes", [[2, 3.0], [2, "3"], [2, True], [2, -1], "23", 5, None])
def test_sizes_that_are_none_are_named(sizes):
    with pytest.raises((TypeError, ValueError), match="MLP: .*sizes"):
        ap.MLP(sizes)


LOGGED = {"data": (np.ones((4, 2), "float32"), np.asarray([0, 1, 1, 0]))}
LOGGED |= {"loss": ap.SoftmaxCrossEntropy(), "optimizer": ap.SGD()}
SAVERS = {
    "save": lambda path: ap.save(path, NET.init(), net=NET),
    "save_torch": lambda path: ap.interchange.save_torch(path, NET, NET.init()),
}


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
def test_a_folder_that_does_not_exist_is_named(save, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*absent.*create it first"):
        save(tmp_path / "absent" / "a.safetensors")
    (tmp_path / "absent").mkdir()
    save(tmp_path / "absent" / "a.safetensors")


WRITERS = SAVERS | {
    "export_onnx": lambda path: ap.export_onnx(NET, NET.init(), path),
    "CSVLogger": lambda path: ap.fit(NET, NET.init(), **LOGGED, callbacks=[ap.CSVLogger(path)]),
    "JSONLogger": lambda path: ap.fit(NET, NET.init(), **LOGGED, callbacks=[ap.JSONLogger(path)]),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("path", [".", "", "..", "/", "inside", "inside/"])
def test_a_folder_is_not_written_to_as_a_file(write, path, tmp_path, monkeypatch):
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    (tmp_path / "inside" / "inside").mkdir()
    with pytest.raises(IsADirectoryError, match=" is a folder; name a file in it"):
        write(path)
    assert list(tmp_path.rglob("*")) == [tmp_path / "inside", tmp_path / "inside" / "inside"]


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
@pytest.mark.parametrize("path", [None, 3, b"bytes", ["a"]])
def test_what_is_no_path_is_named(save, path):
    for call in (save, ap.load, ap.load_idx):
        with pytest.raises(TypeError, match="path must be a str or a pathlib.Path"):
            call(path)


@pytest.mark.skipif(importlib.util.find_spec("resource") is None, reason="needs POSIX limits")
def test_a_full_disk_keeps_the_older_file_and_names_it(tmp_path):
    path = tmp_path / "net.safetensors"
    ap.save(path, NET.init(seed=1), net=NET)
    before = path.read_bytes()
    code = (
        "import resource, signal, sys, anyprop as ap\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "net = ap.MLP([50, 50, 2])\n"
        "try:\n    ap.save(sys.argv[1], net.init(), net=net)\n"
        "except OSError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, path], capture_output=True, text=True, check=True
    )
    assert str(path) in done.stdout
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("batches", [[np.arange(4)], 3, "rows"])
def test_batches_that_are_no_function_are_named(batches):
    with pytest.raises(TypeError, match=r"batches must be a function \(n, batch_size, epoch\)"):
        ap.fit(NET, NET.init(), (X, T), batches=batches, **GIVEN)


@pytest.mark.parametrize("order", "=<>")
@pytest.mark.parametrize("code", np.typecodes["AllFloat"] + np.typecodes["AllInteger"] + "?O")
def test_save_writes_nothing_that_load_refuses(code, order, tmp_path):
    params = NET.init()
    flat = params.flat.astype(np.dtype(code).newbyteorder(order))
    path = tmp_path / "a"
    try:
        ap.save(path, params.replace(flat=flat), net=NET)
    except TypeError as error:
        assert "cast them to float32" in str(error)  # noqa: PT017
        assert not path.exists()
        return
    found = ap.load(path).params.flat
    assert found.dtype == flat.dtype
    np.testing.assert_array_equal(found, flat)
    assert code in "efd" or flat.dtype.name in ("float16", "float32", "float64")


def test_running_statistics_of_another_dtype_are_not_saved(tmp_path):
    net = ap.MLP([2, 3, 2], norm="batch")
    params = net.init()
    wide = params.replace(running=params.running.astype("float64"))
    with pytest.raises(TypeError, match=r"float64.*one dtype"):
        ap.save(tmp_path / "a", wide, net=net)
    assert not list(tmp_path.iterdir())


def test_a_function_as_learning_rate_is_compared_by_its_values(tmp_path):
    def run(rate, epochs, **options):
        opt = ap.SGD(lr=lambda step: rate / (1 + step))
        loss = GIVEN["loss"]
        return ap.fit(NET, NET.init(), (X, T), loss=loss, optimizer=opt, epochs=epochs, **options)

    run(0.1, 1, callbacks=[ap.Checkpoints(tmp_path)])
    assert len(run(0.1, 2, resume=tmp_path).history.losses) == 2
    with pytest.raises(ap.ResumeError, match=r"lr.step 0 was 0\.1 and is 0\.2"):
        run(0.2, 2, resume=tmp_path)


@pytest.mark.parametrize("wrong", [3, "adam", None])
@pytest.mark.parametrize("name", ["net", "loss", "optimizer"])
def test_arguments_of_another_kind_are_named(name, wrong):
    given = {"net": NET, "params": NET.init(), "data": (X, T), **GIVEN, name: wrong}
    with pytest.raises(TypeError, match=f"{name} must be"):
        ap.fit(**given)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "object", ">f4", "float3"])
def test_files_are_loaded_into_floating_dtypes_only(dtype, tmp_path):
    ap.save(tmp_path / "a", NET.init(), net=NET)
    with pytest.raises(TypeError, match="dtype must be"):
        ap.load(tmp_path / "a", dtype=dtype)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("dtype", ["O", "U1", "g"])
def test_dtypes_that_pytorch_lacks_are_named(dtype):
    if dtype == "g" and np.dtype("g") == np.dtype("d"):
        pytest.skip("long double is double here")
    with pytest.raises(TypeError, match="torch has no arrays of"):
        ap.from_host(np.zeros(2, dtype), "torch")


def test_what_is_no_path_to_resume_from_is_named():
    with pytest.raises(TypeError, match="resume must be a str"):
        ap.fit(NET, NET.init(), (X, T), resume=3, **GIVEN)


def test_checkpoints_of_bfloat16_are_refused_before_any_training(backend, tmp_path):
    if backend.name not in ("torch", "jax"):
        pytest.skip("this backend has no bfloat16")
    params = NET.init(xp=backend.xp, dtype="bfloat16")
    x = ap.to_namespace(X, backend.xp, dtype="bfloat16")
    folder, steps = tmp_path / "c", []

    def batches(n, batch_size, epoch):
        steps.append(epoch)
        return [np.arange(n)]

    given = {"batches": batches, "callbacks": [ap.Checkpoints(folder)], **GIVEN}
    with pytest.raises(TypeError, match="bfloat16.*cast them to float32"):
        ap.fit(NET, params, (x, backend.asarray(T)), **given)
    assert not steps
    assert not folder.exists()


def _update(p):
    opt = ap.SGD(0.1)
    plain = np.asarray(p)
    return opt.update(p, plain, opt.init(plain))


@pytest.mark.parametrize("kind", [np.ma.masked_array, lambda x: x.view(np.matrix)])
@pytest.mark.parametrize(
    "use",
    [
        _update,
        ap.SGD(0.1).init,
        lambda p: NET.init().replace(flat=p.ravel()).copy(),
        lambda p: ap.predict(NET, NET.init().replace(flat=p.ravel()), X),
        lambda p: ap.save("a", NET.init().replace(flat=p.ravel()), net=NET),
    ],
    ids=["update", "init", "copy", "predict", "save"],
)
def test_parameters_are_no_kinds_of_ndarray_that_compute_otherwise(kind, use):
    with pytest.raises(TypeError, match=r"masked array|numpy.matrix"):
        use(kind(np.zeros((1, 17), "float32")))


@pytest.mark.parametrize("damage", ["cut", "bytes"])
def test_a_load_or_a_resume_that_fails_changes_nothing(damage, tmp_path):
    ap.fit(NET, NET.init(), (X, T), callbacks=[ap.Checkpoints(tmp_path)], **GIVEN)
    (path,) = tmp_path.glob("step-*")
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] if damage == "cut" else whole[:-1] + bytes([whole[-1] ^ 1]))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    params = NET.init(seed=3)
    kept, np_state = params.flat.copy(), np.random.get_state()[1].copy()
    for call in (
        lambda: ap.load(path),
        lambda: ap.fit(NET, params, (X, T), resume=path, **GIVEN),
    ):
        with pytest.raises(ValueError, match="damaged|truncated"):
            call()
    np.testing.assert_array_equal(params.flat, kept)
    np.testing.assert_array_equal(np.random.get_state()[1], np_state)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


class _Falling(ap.schedules.Schedule):
    """A user's schedule whose numbers are in none of its fields."""

    def __init__(self, rate):
        self.at = lambda xp, t: rate / (1.0 + t)


@pytest.mark.parametrize(
    "within",
    [
        lambda own: own,
        lambda own: ap.schedules.Warmup(1, own),
        lambda own: ap.schedules.Join((ap.schedules.Constant(0.1), own), (1,)),
    ],
    ids=["alone", "Warmup", "Join"],
)
def test_a_schedule_of_ones_own_is_compared_by_its_values_wherever_it_is(within, tmp_path):
    def run(rate, epochs, **options):
        opt = ap.SGD(lr=within(_Falling(rate)))
        loss = GIVEN["loss"]
        return ap.fit(NET, NET.init(), (X, T), loss=loss, optimizer=opt, epochs=epochs, **options)

    run(0.1, 1, callbacks=[ap.Checkpoints(tmp_path)])
    assert len(run(0.1, 2, resume=tmp_path).history.losses) == 2
    with pytest.raises(ap.ResumeError, match=r"step 0 was 0\.1 and is 0\.2"):
        run(0.2, 2, resume=tmp_path)
