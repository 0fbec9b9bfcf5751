"""What a command advises is done as it says, and ends with code 0."""

import re

import pytest

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
