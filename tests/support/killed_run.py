"""A run that, started again, goes on from its newest checkpoint: ``killed_run.py FOLDER EVERY``.

It keeps a checkpoint every EVERY steps, says "training" when it trains, and leaves result.npz and
log.jsonl when it has come to its end.
"""

import sys
from pathlib import Path

import numpy as np

import anyprop as ap


class Say(ap.Callback):
    def on_start(self, run):
        print("training", flush=True)


def main():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((60, 8))
    t = (x[:, 0] * x[:, 1] > 0).astype("int64")
    net = ap.MLP([8, 12, 2], "tanh", norm="batch", dropout=0.3)
    folder = Path(sys.argv[1])
    result = ap.fit(
        net,
        net.init(seed=8, dtype="float64"),
        (x[:45], t[:45]),
        loss=ap.SoftmaxCrossEntropy(),
        optimizer=ap.Adam(lr=ap.schedules.Cosine(0.05, steps=400)),
        epochs=60,
        batch_size=8,
        validation=(x[45:], t[45:]),
        seed=3,
        callbacks=[
            ap.ReduceLROnPlateau(factor=0.7, patience=2),
            ap.EarlyStopping(patience=50),
            ap.Checkpoints(folder / "checkpoints", every=int(sys.argv[2])),
            ap.JSONLogger(folder / "log.jsonl"),
            Say(),
        ],
        resume=folder / "checkpoints"
        if any(folder.glob("checkpoints/step-*.safetensors"))
        else None,
    )
    slots = {name: slot.flat for name, slot in result.state.slots.items()}
    np.savez(
        folder / "result.npz",
        flat=result.params.flat,
        running=result.params.running,
        losses=result.history.losses,
        step=result.state.step,
        lr_scale=result.state.lr_scale,
        **slots,
    )


if __name__ == "__main__":
    main()
