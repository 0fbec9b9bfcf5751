"""Write the files of tests/checkpoint/fixtures, once for each version; never over older ones."""

import sys
import tempfile
from pathlib import Path

import numpy as np

import anyprop as ap

FOLDER = Path(__file__).parent.parent / "tests" / "checkpoint" / "fixtures"


def main() -> None:
    """Write a network with all it can have, and a training run."""
    folder = FOLDER / f"version-{sys.argv[1]}"
    folder.mkdir(parents=True)
    net = ap.Sequential(
        *(ap.Affine(3, 4, bias=False), ap.BatchNorm(4), ap.LeakyReLU(0.2), ap.Dropout(0.25)),
        *(ap.Residual(ap.Sequential(ap.Affine(4, 4), ap.GELU())), ap.LayerNorm(4), ap.Affine(4, 2)),
    )
    x = np.linspace(-1.0, 1.0, 30).reshape(10, 3)
    t = np.arange(10) % 2
    opt = ap.AdamW(lr=ap.schedules.Cosine(0.1, steps=20), weight_decay=0.1, decay_biases=False)
    with tempfile.TemporaryDirectory() as scratch:
        ap.fit(
            *(net, net.init(seed=8, dtype="float64"), (x, t)),
            loss=ap.SoftmaxCrossEntropy(),
            optimizer=opt,
            steps=7,
            batch_size=4,
            validation=(x, t),
            callbacks=[ap.EarlyStopping(), ap.ReduceLROnPlateau(), ap.Checkpoints(scratch)],
        )
        place = max(Path(scratch).glob("step-*"))
        (folder / "run.safetensors").write_bytes(place.read_bytes())
    small = ap.MLP([3, 2])
    ap.save(folder / "model.safetensors", small.init(seed=8), net=small, config={"note": "ä"})
    found = ap.load(folder / "run.safetensors")
    np.savetxt(folder / "predictions.txt", ap.predict(net, found.params, x), fmt="%.17g")


if __name__ == "__main__":
    main()
