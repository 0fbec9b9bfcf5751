"""What a command advises is done as it says, and ends with code 0."""

import re

import numpy as np
import pytest

import anyprop as ap

TRAIN = "train --data {images} --hidden 4 --steps 2 --out run"
# advice -> (what fails with it, what follows it)
ADVICE = {
    "write a number after the colon, as in rmsprop:0.001": (
        "compare rmsprop:fast --data {images} --hidden 4 --steps 2",
        ["compare rmsprop:0.001 --data {images} --hidden 4 --steps 2"],
    ),
    "use --steps": (
        "compare rmsprop --article --epochs 1 --data {images}",
        ["compare rmsprop --article --steps 2 --data {images}"],
    ),
    "name an output: --onnx FILE, --torch FILE, or both": (
        "export run/model.safetensors",
        ["export run/model.safetensors --onnx a --torch b"],
    ),
    "is a file that this command reads; name another to write": (
        "predict run --data {images} --out run/model.safetensors",
        ["predict run --data {images} --out classes.csv"],
    ),
    "--softmax goes with --onnx; leave it out": (
        "export run/model.safetensors --torch b --softmax",
        ["export run/model.safetensors --torch b"],
    ),
    "sgd does not take --rho; leave it out": (
        TRAIN + " --optimizer sgd --rho 0.9",
        [TRAIN + " --optimizer sgd"],
    ),
    "--or-start and --allow-changes go with --resume; leave them out": (
        TRAIN + " --or-start",
        [TRAIN],
    ),
    "continue it with --resume, or choose another --out": (
        TRAIN + " --checkpoint-every 1",
        [TRAIN + " --checkpoint-every 1 --resume", TRAIN + " --checkpoint-every 1 --out other"],
    ),
    "add --or-start to start without": (
        TRAIN + " --out new --resume",
        [TRAIN + " --out new --resume --or-start"],
    ),
}


@pytest.mark.parametrize("advice", ADVICE)
def test_advice_leads_somewhere(advice, run, images):
    def call(command):
        return run(*command.format(images=images).split())

    assert call(TRAIN + " --checkpoint-every 1")[0] == 0
    fails, follows = ADVICE[advice]
    code, _, said = call(fails)
    assert code == 2
    assert re.search(re.escape(advice), said)
    for command in follows:
        code, _, said = call(command)
        assert code == 0, said


def test_advice_about_models_leads_somewhere(run, images, tmp_path):
    train = f"train --data {images} --hidden 4 --steps 2 --checkpoint-every 1 --out"
    code, _, said = run(*f"predict --data {images}".split())
    assert code == 2
    assert "run `anyprop train` first, or name a MODEL" in said
    assert run(*f"{train} run".split())[0] == 0
    assert run(*f"predict run --data {images}".split())[0] == 0
    assert run(*f"{train} runs/train".split())[0] == 0
    assert run(*f"predict --data {images}".split())[0] == 0

    code, _, said = run("inspect", images)
    assert code == 2
    assert "name another" in said
    (tmp_path / "run" / "model.safetensors").unlink()
    code, _, said = run("inspect", "run")
    assert code == 2
    assert "take its newest checkpoint, " in said
    assert (
        run("inspect", said.rpartition("take its newest checkpoint, ")[2].strip().rstrip("."))[0]
        == 0
    )


def test_advice_about_pictures_leads_somewhere(run, tmp_path):
    picture = pytest.importorskip("PIL.Image")
    picture.frombytes("L", (28, 28), bytes(255 * (i % 28 in (13, 14)) for i in range(784))).save(
        "digit.png"
    )
    net = ap.MLP([784, 10])
    ap.save("net.safetensors", net.init(), net=net)
    code, _, said = run("predict", "net.safetensors", "--data", "digit.png")
    assert code == 2
    assert "write --image digit.png" in said
    assert run("predict", "net.safetensors", "--image", "digit.png")[0] == 0


# advice -> (an array, what is wrong with it, how that is mended)
ARRAYS = {
    "convert them by astype('int64')": ("y_train", lambda y: y / 1.0, lambda y: y.astype("int64")),
    "of rows with a single one take argmax(axis=1)": (
        "y_train",
        lambda y: np.eye(3)[y],
        lambda y: y.argmax(axis=1),
    ),
    "number them by numpy.unique(y, return_inverse=True)[1]": (
        "y_train",
        lambda y: np.array(["a", "b", "c"])[y],
        lambda y: np.unique(y, return_inverse=True)[1],
    ),
    "number the classes from 0 on": (
        "y_train",
        lambda y: y * np.int64(10**6),
        lambda y: np.unique(y, return_inverse=True)[1],
    ),
    "remove or replace such numbers": (
        "x_train",
        lambda x: np.where(np.arange(36).reshape(6, 6) == 3, np.nan, x),
        np.nan_to_num,
    ),
    "save pixels as uint8, which are divided by 255": (
        "x_train",
        lambda x: x.astype("int64"),
        lambda x: x.astype("uint8"),
    ),
    "other numbers as float32": (
        "x_train",
        lambda x: x.astype("int16"),
        lambda x: x.astype("float32"),
    ),
    "save an array of numbers": (
        "x_train",
        lambda x: x.astype(object),
        lambda x: x.astype("float32"),
    ),
}


@pytest.mark.parametrize("advice", ARRAYS)
def test_advice_about_arrays_leads_somewhere(advice, run, arrays):
    train = ["train", "--data", "a.npz", "--hidden", "4", "--steps", "2"]
    name, spoil, mend = ARRAYS[advice]
    names = [name] if name == "y_train" else ["x_train", "x_test"]  # of x, both are of one kind
    spoilt = {name: spoil(arrays[name]) for name in names}
    np.savez("a.npz", **arrays | spoilt)
    code, _, said = run(*train)
    assert code == 2
    assert advice in said
    np.savez("a.npz", **arrays | {name: mend(array) for name, array in spoilt.items()})
    code, _, said = run(*train)
    assert code == 0, said


def test_advice_about_files_of_arrays_leads_somewhere(run, arrays, tmp_path):
    train = ["train", "--hidden", "4", "--steps", "2", "--data"]
    (tmp_path / "a.npz").write_text("x\n1\n")
    assert "write it by numpy.savez" in run(*train, "a.npz")[2]
    (tmp_path / "a.npz").write_bytes(b"PK\3\4")
    assert "or write it by numpy.savez" in run(*train, "a.npz")[2]
    np.savez("a.npz", **arrays)
    assert run(*train, "a.npz")[0] == 0

    (tmp_path / "npy").mkdir()
    for name in arrays:
        (tmp_path / "npy" / f"{name}.npy").write_text("1\n")
    assert "write it by numpy.save." in run(*train, "npy")[2]
    for name, array in arrays.items():
        np.save(tmp_path / "npy" / f"{name}.npy", array)
    assert "name the folder with all four files instead" in run(*train, "npy/x_train.npy")[2]
    assert run(*train, "npy")[0] == 0
    for file in ("a.npz", "npy/x_test.npy"):
        assert "write `--data` before it if it holds examples" in run("predict", file)[2]
        assert run("predict", "--data", file)[0] == 0


def test_advice_about_a_network_of_one_output_leads_somewhere(run, arrays):
    net, x = ap.Affine(36, 1), arrays["x_test"].reshape(60, -1).astype("float32")
    np.save("x.npy", x)
    ap.save("net", net.init(), net=net)
    assert "call anyprop.predict for its numbers" in run("predict", "net", "--data", "x.npy")[2]
    assert ap.predict(net, ap.load("net").params, x).shape == (60, 1)


def test_advice_about_numbers_beyond_float32_leads_somewhere(run, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    net = ap.Affine(2, 1)
    params = net.init(dtype="float64").replace(flat=np.asarray([1.0, 1e40, 0.0]))
    ap.save("large", params, net=net)
    code, out, said = run("export", "large", "--onnx", "net.onnx")
    assert (code, out) == (2, "")
    assert "large holds numbers that do not fit in float32, which --onnx writes" in said
    assert "write the model in Python by anyprop.export_onnx(net, params, path)." in said
    assert not (tmp_path / "net.onnx").exists()
    ap.export_onnx(net, ap.load("large").params, "net.onnx")
    (y,) = runtime.InferenceSession("net.onnx").run(None, {"x": np.asarray([[1.0, 2.0]])})
    np.testing.assert_allclose(y, [[2e40]])
