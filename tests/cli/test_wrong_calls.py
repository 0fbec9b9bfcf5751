"""Wrong calls: exit code 2, one sentence that says what to do, and nothing trained or printed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from anyprop.cli._main import COMMANDS

WRONG = {
    # unknown names, with the nearest match
    "trian": "unknown command 'trian'; did you mean 'train'?",
    "train --backend numpi": "unknown backend 'numpi'; did you mean 'numpy'?",
    "train --optimizer rmsprob": "unknown optimizer 'rmsprob'; did you mean 'rmsprop'?",
    "train --activation rulu": "unknown activation 'rulu'; did you mean 'relu'?",
    "train --weights he_norml": "unknown initializer 'he_norml'; did you mean 'he_normal'?",
    "train --schedule cosin": "unknown schedule 'cosin'; did you mean 'cosine'?",
    "train --norm batsh": "unknown norm 'batsh'; did you mean 'batch'?",
    "train --dtype bfloat16": "argument --dtype: must be float32 or float64, not 'bfloat16'.",
    "train --device cuda:7": "no device 'cuda:7' here; choose one of: cpu.",
    "compare rmsprop adagrat": "unknown optimizer 'adagrat'; did you mean 'adagrad'?",
    # not numbers, or out of range
    "train --lr -1": "lr must be a positive finite number, not -1.0.",
    "train --lr 0": "lr must be a positive finite number, not 0.0.",
    "train --lr nan": "lr must be a positive finite number, not nan.",
    "train --lr inf --schedule cosine": "lr must be a positive finite number, not inf.",
    "train --lr fast": "argument --lr: invalid float value: 'fast'.",
    "train --rho 1": "rho must be in [0, 1), not 1.0.",
    "train --optimizer sgd --rho 0.9": "sgd does not take --rho; leave it out.",
    "train --dropout 1.5": "dropout must be in [0, 1), not 1.5.",
    "train --weight-decay -1": "weight_decay must be zero or a positive finite number",
    "train --clip-norm 0": "clip_global_norm must be a positive finite number",
    "train --weights normal:-1": "weights 'normal:-1': write a positive number",
    "train --weights normal:1e99 --data few": "does not fit in float32; ask for a wider dtype.",
    "compare sgd --weights normal:1e99 --data few": "does not fit in float32; ask for a wider",
    "train --data few --hidden 1000000000000": "this needs more memory than there is: Unable to",
    "train --steps 0": "argument --steps: must be a whole number of at least 1, not '0'.",
    "train --epochs 1.5": "argument --epochs: must be a whole number of at least 1, not '1.5'.",
    "train --batch-size 0": "argument --batch-size: must be a whole number of at least 1",
    "train --accumulate -2": "argument --accumulate: must be a whole number of at least 1",
    "train --seed -1": "argument --seed: must be a whole number of at least 0, not '-1'.",
    "train --early-stopping 0": "argument --early-stopping: must be a whole number of at least 1",
    "train --hidden 200,0": "argument --hidden: must be whole numbers of at least 1",
    "train --hidden 200;200": "separated by commas, as in 200,200, not '200;200'.",
    "compare rmsprop:fast": "write a number after the colon, as in rmsprop:0.001",
    "compare rmsprop:-1": "lr must be a positive finite number, not -1.0.",
    # options that do not go together, or do not exist
    "train --steps 5 --epochs 5": "argument --epochs: not allowed with argument --steps.",
    "train --bakend numpy": "unrecognized arguments: --bakend numpy; did you mean --backend?",
    "train --learning-rate=0.1": "--learning-rate=0.1; did you mean --lr?",
    "train --epoch 3": "unrecognized arguments: --epoch 3; did you mean --epochs?",
    "train --batchsize 3": "did you mean --batch-size?",
    "compare sgd --random-state 3": "did you mean --seed?",
    "train --zyzzyva": "unrecognized arguments: --zyzzyva.",
    "train zyzzyva": "unrecognized arguments: zyzzyva.",
    "compare": "the following arguments are required: NAME[:LR].",
    "train --distributed mpj": "unknown --distributed 'mpj'; did you mean 'mpi'?",
    "train --distributed nccl": "--distributed nccl needs --backend cupy.",
    "compare rmsprop rmsprop": "rmsprop, lr 0.001 is given twice.",
    "compare rmsprop --article --epochs 2": "--article draws with replacement",
    # files
    "train --data nowhere": "there is no folder or file 'nowhere'; --data takes mnist, an .npz file",
    "train --data empty": "empty holds no data set: --data takes an .npz file with x_train,",
    "compare sgd --data empty": "or a folder with these as .npy files or with four IDX files.",
    "train --data npy/x_train.npy": "is an array of NumPy; name the folder with all four files inst",
    "train --data few/t10k-images-idx3-ubyte": "is an IDX file of data; name the folder with all",
    "train --data a.h5": "a.h5 is an HDF5 file; --data takes mnist, an .npz file with x_train,",
    "train --data pipe": "'pipe' is no folder; --data takes mnist, an .npz file",
    "train --data digit.png": "digit.png is a PNG picture; --data takes mnist, an .npz file",
    "train --data html.npz": "html.npz is no .npz archive but a text file; write it by numpy.savez.",
    "train --data cut.npz": "cut.npz cannot be read as an .npz archive (File is not a zip file); fetch",
    "train --data other.npz": "other.npz holds images, labels, but no x_train; expected x_train,",
    "train --data npy": "npy holds x_train.npy, but no y_train.npy; expected x_train, y_train, x_test",
    "train --data above": "above holds no data set: --data takes ",
    "compare sgd --data above": "; did you mean above/below?",
    "train --data beside": "; did you mean beside/other.npz?",
    "train --data floats.npz": "y_train of floats.npz holds (9,) float64; expected class numbers of",
    "compare sgd --data nan.npz": "x_test of nan.npz holds nan in row 2, which is no finite float32; r",
    "train --data ids.npz": "the labels of ids.npz go up to 1000000000, beyond its 69 examples; numb",
    "train --data same.npz": "all labels of same.npz are 0, so there is nothing to learn.",
    "train --data sizes.npz": "rows of 36 numbers in x_train, but of 18 in x_test; expected as many",
    "train --data mixed.npz": "mixed.npz has float64 in x_train, but uint8 in x_test; expected both of",
    "predict file --data nan.npz": "file is no safetensors file but a text file",
    "train --data cut": "is truncated",
    "train --data foreign": "is not an IDX file",
    "train --data few --early-stopping": "--early-stopping needs at least 10 examples, not 9.",
    "train --out file": "cannot write into file: File exists.",
    "train --out file/below": "cannot write into file/below: Not a directory.",
    "compare rmsprop --out file": "cannot write into file: File exists.",
    "compare sgd --out file/below": "cannot write into file/below: Not a directory.",
    "train --data file": "file is a text file; --data takes mnist, an .npz file with x_train,",
    "compare sgd --data file": "file is a text file; --data takes mnist, an .npz file",
    "predict empty": "empty is a folder without model.safetensors, which `anyprop train` writes",
    "inspect empty": "empty is a folder without model.safetensors, which `anyprop train` writes",
    "export empty --torch a": "empty is a folder without model.safetensors, which `anyprop train`",
    "check --json empty": "empty: Is a directory.",
    "check --json nowhere/a": "nowhere/a: No such file or directory.",
    "predict nowhere.safetensors": "there is no file nowhere.safetensors; expected a safetensors file.",
    "predict file": "file is no safetensors file but a text file; name a file that anyprop.save",
    "predict": "there is no runs/train; run `anyprop train` first, or name a MODEL.",
    "train --data file --steps 3": "; a table goes to anyprop.sklearn or anyprop.fit.",
    "predict few --data file": "few is a folder without model.safetensors",
    "predict file --image nowhere.png --data mnist": "--data: not allowed with argument --image",
}


@pytest.fixture
def files(images, arrays, make_images, tmp_path):
    """Create the files that the table names, all of them unfit."""
    few = {name: array[:9] if "train" in name else array for name, array in arrays.items()}
    for name, changes in {
        "floats": {"y_train": few["y_train"] / 2},
        "nan": {"x_test": np.where(np.arange(60)[:, None, None] == 2, np.nan, few["x_test"])},
        "ids": {"y_test": few["y_test"].astype("i8") * 0 + 10**9},
        "same": {name: 0 * few[name] for name in ("y_train", "y_test")},
        "sizes": {"x_test": few["x_test"][:, :3]},
        "mixed": {"x_train": few["x_train"] * 1.0},
    }.items():
        np.savez(tmp_path / f"{name}.npz", **few | changes)
    np.savez(tmp_path / "other.npz", images=few["x_train"], labels=few["y_train"])
    (tmp_path / "cut.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:-9])
    (tmp_path / "html.npz").write_text("<html>not found</html>")
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))
    (tmp_path / "digit.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    for folder in ("npy", "above/below", "beside"):
        (tmp_path / folder).mkdir(parents=True)
    np.save(tmp_path / "npy" / "x_train.npy", few["x_train"])
    np.save(tmp_path / "above" / "below" / "x_train.npy", few["x_train"])
    shutil.copy(tmp_path / "other.npz", tmp_path / "beside")

    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("something else")
    make_images(tmp_path / "few", train=9)
    for name, spoil in (("cut", lambda old: old[:-1]), ("foreign", lambda old: b"P5 6 6" + old)):
        shutil.copytree(images, tmp_path / name)
        path = tmp_path / name / "train-images-idx3-ubyte"
        path.write_bytes(spoil(path.read_bytes()))
    return tmp_path


@pytest.mark.parametrize("call", WRONG)
def test_wrong_calls(call, run, files, images):
    trains = call.startswith(("train ", "compare ")) and "--data" not in call
    before = sorted(files.rglob("*"))
    code, out, err = run(*call.split(), *(("--data", images) if trains else ()))
    assert code == 2
    assert out == ""
    assert err.startswith("anyprop: ")
    assert WRONG[call] in err
    assert err.count("\n") == 1
    assert err.endswith((".\n", "?\n"))
    assert sorted(files.rglob("*")) == before


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that refuses everybody")
@pytest.mark.parametrize("call", ["train", "compare sgd"])
def test_a_folder_that_cannot_be_written(call, run, images):
    code, out, err = run(*call.split(), "--data", images, "--out", "/proc/1")
    assert (code, out) == (2, "")
    assert err.startswith("anyprop: cannot write into /proc/1: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("call", "package"),
    [
        ("train", "matplotlib"),
        ("train", "tqdm"),
        ("compare sgd", "matplotlib"),
    ],
)
def test_what_a_missing_extra_is_called(call, package, run, files, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    code, out, err = run(*call.split())
    assert (code, out) == (2, "")
    assert err == f'anyprop: {package} is not installed; run pip install "anyprop[cli]" first.\n'


def test_ranks_cannot_be_connected_without_mpi4py(run, files, monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", None)
    code, out, err = run("train", "--distributed", "mpi")
    assert (code, out) == (2, "")
    assert err.startswith("anyprop: MPI cannot be used here (")
    assert 'run pip install "anyprop[mpi]", and install an MPI library' in err
    assert err.count("\n") == 1


def test_a_backend_that_cannot_be_used_says_why(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "dpnp", None)
    code, out, err = run("train", "--backend", "dpnp")
    assert (code, out) == (2, "")
    assert err == (
        "anyprop: backend 'dpnp' cannot be used here: dpnp is not installed; install dpnp.\n"
    )


def test_without_a_command_there_is_help(run):
    code, out, err = run()
    assert (code, err) == (0, "")
    assert out.startswith("usage: anyprop [-h] [--version] COMMAND ...")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, run, capsys):
    with pytest.raises(SystemExit) as exit_:
        run(command, "--help")
    assert exit_.value.code == 0
    assert f"usage: anyprop {command} [-h]" in capsys.readouterr().out


@pytest.mark.parametrize("columns", [60, 120])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_filled_to_the_terminal(command, columns, run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        run(command, "--help")
    text = capsys.readouterr().out
    assert not [line for line in text.splitlines() if len(line) > columns and line[0] != " "]
    examples = [line for line in COMMANDS[command].__doc__.splitlines() if line[:1] == " "]
    assert all(line in text.splitlines() for line in examples)
