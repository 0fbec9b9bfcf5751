"""Trainings that must have the same results on one rank and on several.

Each case is a whole training of 100 steps on a problem with batches that do not divide evenly: 23
examples in batches of 11 make batches of 11, 11 and 1, so three ranks have shares of 4, 4 and 3 rows,
and two of them none at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import anyprop as ap
from anyprop.distributed import broadcast_parameters, make_data_parallel_step, shares
from anyprop.network import noise_beside
from anyprop.training.batches import stream

N, BATCH, EPOCHS, SEED = 23, 11, 34, 3
STEPS = 100
_LOSS, _OPTIMIZER = ap.SoftmaxCrossEntropy(), ap.RMSProp(lr=0.01, rho=0.9)


@dataclass(frozen=True)
class Case:
    net: Any
    loss: Any = _LOSS
    opt: Any = _OPTIMIZER
    accumulate: int = 1
    weighted: bool = False

    def data(self, xp: Any = None) -> tuple[Any, Any, Any]:
        rng = np.random.default_rng(1)
        x = rng.standard_normal((N, 4))
        t = (x[:, 0] * x[:, 1] > 0).astype("int64") + (x[:, 2] > 1)
        # Some rows weigh nothing, so that a rank's share may have rows and yet no weight.
        w = np.where(rng.random(N) < 0.4, 0.0, rng.exponential(size=N))
        return tuple(ap.from_host(array, xp) for array in (x, t, w))

    def fit(
        self, communicator: Any = None, xp: Any = None, **options: Any
    ) -> dict[str, np.ndarray]:
        """Train by `fit`, which several ranks start from other parameters than rank 0."""
        x, t, w = self.data(xp)
        rank = 0 if communicator is None else communicator.rank
        result = ap.fit(
            self.net,
            self.net.init(8 + rank, xp=xp, dtype="float64"),
            (x, t),
            **{
                "loss": self.loss,
                "optimizer": self.opt,
                "steps": STEPS,
                "batch_size": BATCH,
                "validation": (x[:17, ...], t[:17]),
                "sample_weight": w if self.weighted else None,
                "seed": SEED,
                "accumulate": self.accumulate,
                "communicator": communicator,
                **options,
            },
        )
        numbers = _numbers(result.params, result.history.losses)
        for record in result.history.epochs:
            numbers[f"epoch {record.epoch}"] = np.asarray(
                [record.train_loss, record.validation_loss, record.validation_accuracy]
            )
        return numbers

    def alone(self) -> dict[str, np.ndarray]:
        """Train in one process, and leave out what `on_rank` does not measure."""
        return {key: array for key, array in self.fit().items() if "epoch" not in key}

    def on_rank(self, communicator: Any, xp: Any = None, step: Any = None) -> dict[str, np.ndarray]:
        """Train as one of the ranks, each of which starts from other parameters than rank 0."""
        x, t, w = self.data(xp)
        params = self.net.init(8 + communicator.rank, xp=xp, dtype="float64")
        params, state = broadcast_parameters(params, self.opt.init(params), communicator)
        if step is None:
            step = make_data_parallel_step(self.net, self.loss, self.opt, communicator)
        values = []
        for epoch in range(EPOCHS):
            for k, rows in enumerate(ap.batch_indices(N, BATCH, seed=SEED, epoch=epoch)):
                if len(values) == STEPS:
                    break
                noise = self.net.noise(stream(SEED, epoch, k), (len(rows), 4))
                parts = [
                    self._part(params, x, t, w, rows, noise, share)
                    for share in shares(len(rows), communicator, self.accumulate)
                ]
                params, state, value = step(params, state, parts)
                values.append(float(value))
        return _numbers(params, values)

    def _part(
        self, params: Any, x: Any, t: Any, w: Any, rows: Any, noise: Any, share: slice
    ) -> Any:
        xp = params.xp
        mine = ap.from_host(rows[share], xp)
        return {
            "x": xp.take(x, mine, axis=0),
            "t": xp.take(t, mine, axis=0),
            "sample_weight": xp.take(w, mine, axis=0) if self.weighted else None,
            "noise": None if noise is None else noise_beside(params, _rows_of(noise, share)),
        }


def _rows_of(noise: Any, rows: slice) -> Any:
    if isinstance(noise, tuple):
        return tuple(_rows_of(part, rows) for part in noise)
    return None if noise is None else noise[rows]


def _numbers(params: Any, losses: Any) -> dict[str, np.ndarray]:
    numbers = {"flat": ap.to_host(params.flat), "losses": np.asarray(losses)}
    if params.running is not None:
        numbers["running"] = ap.to_host(params.running)
    return {name: np.array(array) for name, array in numbers.items()}


_CLASSES = ap.SoftmaxCrossEntropy(class_weight=[0.3, 2.0, 1.0], label_smoothing=0.1)
_BLOCKS = ap.MLP([4, 6, 6, 3], norm="batch", dropout=0.3, residual=True)

CASES = {
    "plain": Case(ap.MLP([4, 6, 3])),
    "weights": Case(ap.MLP([4, 6, 3]), weighted=True),
    "class-weights": Case(ap.MLP([4, 6, 3]), loss=_CLASSES, weighted=True),
    "dropout": Case(ap.MLP([4, 6, 6, 3], dropout=0.3)),
    "batch-norm": Case(ap.MLP([4, 6, 6, 3], "tanh", norm="batch")),
    "clipped": Case(ap.MLP([4, 6, 3]), opt=ap.Adam(clip_norm=0.05, clip_value=0.01)),
    "clipped-as-one": Case(ap.MLP([4, 6, 3]), opt=ap.SGD(lr=1.0, clip_global_norm=0.1)),
    "accumulated": Case(ap.MLP([4, 6, 3]), accumulate=3, weighted=True),
    "everything": Case(
        _BLOCKS,
        loss=_CLASSES,
        opt=ap.AdamW(weight_decay=0.01, decay_biases=False, clip_global_norm=0.5),
        accumulate=2,
        weighted=True,
    ),
}


def mean_of_means(case: Case, communicator: Any) -> Any:
    """Return a step that seems right and is not: it averages the ranks' mean gradients."""
    step = make_data_parallel_step(case.net, case.loss, case.opt, communicator)

    def local(params: Any, **part: Any) -> tuple[Any, Any]:
        message, running = step.local(params, **part)
        return np.concatenate([message[:-1] / max(message[-1], 1e-300), [1.0]]), running

    return replace(step, local=local)


def assert_equal(ours, theirs, tolerance=1e-12):
    """Fail unless two runs left the same arrays."""
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=tolerance, err_msg=name)
