"""The training loop.

    for each epoch:                       # batches are a function of (seed, epoch)
        for each batch of rows:
            params, state, value = step(params, state, x[rows], t[rows])
            every `report_every` steps:   # read the losses, once for all of them
        validate, record

Nothing is read from the device in between. A compiled step may work in place, on copies made once;
Ctrl-C waits for its end, so it always finds whole parameters.
"""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from anyprop import _tree
from anyprop._checks import count, flag
from anyprop._typing import Array, Shape
from anyprop.backend import device_of, from_host, name_of, namespace, to_host
from anyprop.compiled.dispatch import compile as compile_step, donates
from anyprop.distributed.communicator import Communicator
from anyprop.distributed.data_parallel import (
    DataParallelStep,
    broadcast_parameters,
    make_data_parallel_step,
)
from anyprop.distributed.serial import SerialCommunicator
from anyprop.distributed.shards import shares
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss
from anyprop.network import noise_beside
from anyprop.optimizers.base import Optimizer, OptimizerState
from anyprop.parameters import Parameters
from anyprop.training._data import check_data, check_finite, check_params, check_sample_weight
from anyprop.training._ranks import Ranks
from anyprop.training._signals import HeldSignals
from anyprop.training.batches import Batches, batch_indices, stream
from anyprop.training.callbacks.base import Callback
from anyprop.training.evaluate import Evaluation, measured
from anyprop.training.history import EpochRecord, History
from anyprop.training.resume import ResumeError, load_run, set_states, settings_of_run
from anyprop.training.run import Run
from anyprop.training.step import Step, make_step


class FitResult(NamedTuple):
    """What a training run leaves behind.

    Parameters
    ----------
    params : Parameters
        The trained parameters.
    state : OptimizerState
        The optimizer's state that belongs to them, to continue from.
    history : History
        Losses by step and records by epoch.
    interrupted : bool
        Whether Ctrl-C ended the run.
    """

    params: Parameters
    state: OptimizerState
    history: History
    interrupted: bool


def fit(
    net: Layer,
    params: Parameters,
    data: tuple[Array, Array],
    *,
    loss: Loss,
    optimizer: Optimizer,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 100,
    validation: tuple[Array, Array] | None = None,
    sample_weight: Array | None = None,
    seed: int = 0,
    batches: Batches | None = None,
    accumulate: int = 1,
    compile: bool = True,
    communicator: Communicator | None = None,
    state: OptimizerState | None = None,
    resume: str | PathLike[str] | None = None,
    allow_changes: bool = False,
    callbacks: Sequence[Callback] = (),
    report_every: int = 100,
    progress: bool = False,
) -> FitResult:
    """Train a network.

    Parameters
    ----------
    net : Layer
        The network.
    params : Parameters
        Where to start, from `net.init`; left as they are.
    data : (x, t)
        Examples x, shape (N, D), of the dtype of the parameters, and targets t as the loss takes
        them. Both lie beside the parameters and stay there; only row indices are moved.
    loss : Loss
        What to make smaller.
    optimizer : Optimizer
        How.
    epochs : int >= 1, optional
        Passes through the data; 1 if `steps` is not given either.
    steps : int >= 1, optional
        Updates, instead of epochs.
    batch_size : int >= 1
        Rows in a batch; the last batch of an epoch may be smaller.
    validation : (x, t), optional
        Examples to measure on after every epoch, like `data`.
    sample_weight : array, shape (N,), optional
        Weights of the training examples.
    seed : int >= 0
        Where the order of the examples and the noise of dropout come from: both are functions of
        (seed, epoch), the same on every backend.
    batches : callable, optional
        ``batches(n, batch_size, epoch)`` gives the row indices of each batch of an epoch, 0 the first,
        as NumPy arrays; by default `batch_indices` with `seed`.
    accumulate : int >= 1
        Into how many parts a batch is split to save memory, see `make_step`.
    compile : bool
        Whether the step is compiled, see `anyprop.compile`. A layer or loss of your own is then called
        for the first batch of each shape only, and what it computes is repeated; one that acts
        differently from step to step needs ``compile=False``.
    communicator : Communicator, optional
        The ranks of a job, see `anyprop.distributed`; this process alone by default. Every rank calls
        `fit` with the same arguments and trains on its share of each batch; parameters and state are
        those of rank 0. Callbacks are called on rank 0 only, and what they do to the run holds for
        all. The results are those of one process, to rounding.
    state : OptimizerState, optional
        Where the optimizer goes on from, left as it is; its start by default.
    resume : str or path, optional
        A checkpoint that `Checkpoints` wrote, or a folder of them, of which the newest is taken. The
        run goes on from there as if it had not ended: the same numbers bit for bit on the same
        backend, to rounding on another. `epochs` and `steps` count from its beginning.
    allow_changes : bool
        Whether the resumed run may have other settings than the one that wrote the checkpoint.
    callbacks : sequence of Callback
        What to do at the start, at reports, after epochs and at the end, in this order.
    report_every : int >= 1
        Steps from one report to the next. Only then, and at the end of an epoch, are losses read
        from the device and checked.
    progress : bool
        Whether to show a bar with the loss; it moves at reports.

    Returns
    -------
    FitResult
        ``(params, state, history, interrupted)``. Ctrl-C ends the training after the present step and
        returns what was trained, with ``interrupted=True``; a second one does not wait, and leaves
        `fit` as KeyboardInterrupt.

    Warns
    -----
    RuntimeWarning
        Once, when the step cannot be compiled and runs as it is; the message says why.

    Raises
    ------
    TrainingDivergedError
        The loss or a parameter became NaN or infinite. The error holds the step, the history, and
        the last good `params` and `state`.
    TypeError
        Before any work: arrays of different namespaces, devices or floating dtypes.
    ValueError
        Before any work: shapes, targets or options that do not fit.
    ResumeError
        Before any work, a ValueError: there is no checkpoint to resume from, or it has other settings,
        which the message names.
    ImportError
        Before any work: `progress` without tqdm.

    Examples
    --------
    >>> import numpy as np, anyprop as ap
    >>> x = np.random.default_rng(0).standard_normal((200, 2)).astype("float32")
    >>> t = (x[:, 0] * x[:, 1] > 0).astype("int64")
    >>> net = ap.MLP([2, 16, 2])
    >>> result = fit(
    ...     net,
    ...     net.init(seed=8),
    ...     (x, t),
    ...     loss=ap.SoftmaxCrossEntropy(),
    ...     optimizer=ap.RMSProp(lr=0.01),
    ...     epochs=50,
    ...     batch_size=20,
    ... )
    >>> len(result.history.losses), result.history.epochs[-1].train_loss < 0.2
    (500, True)
    """
    check_params(net, params)
    x, t = check_data("data", data, net, params, loss)
    check_finite("data", x)
    n = x.shape[0]
    if sample_weight is not None:
        check_sample_weight(sample_weight, params, n)
    if validation is not None:
        validation = check_data("validation", validation, net, params, loss)
        check_finite("validation", validation[0])
    if epochs is not None and steps is not None:
        raise ValueError("fit takes epochs or steps, not both.")
    if steps is None:
        epochs = count("fit", "epochs", 1 if epochs is None else epochs)
    else:
        steps = count("fit", "steps", steps)
    batch_size = count("fit", "batch_size", batch_size)
    report_every = count("fit", "report_every", report_every)
    seed = _seed(seed)
    settings = settings_of_run(
        net,
        loss,
        optimizer,
        params,
        callbacks,
        examples=n,
        validation=None if validation is None else validation[0].shape[0],
        weighted=sample_weight is not None,
        batch_size=batch_size,
        accumulate=accumulate,
        seed=seed,
        own_batches=batches is not None,
    )
    communicator = communicator or SerialCommunicator()
    ranks = Ranks(communicator)
    if ranks.several:
        place = {"backend": name_of(params.xp), "layout": params.layout}
        length = {"epochs": epochs, "steps": steps, "report_every": report_every}
        ends = {"rows at the ends of data": (_ends(x), _ends(t))}
        others = {name: value for name, value in settings.items() if name != "callbacks"}
        ranks.check_same(place | others | length | ends)
    found = None
    if resume is not None:
        if state is not None:
            raise ValueError("fit takes state or resume, not both.")
        load = partial(load_run, resume, params, settings, allow_changes=allow_changes)
        found = ranks.read(load, params)
        params, state = found.params, found.state
    state = _state(optimizer, params, state)
    if progress and importlib.util.find_spec("tqdm") is None:
        raise ImportError('progress=True needs tqdm; run pip install "anyprop[cli]".')
    compile = flag("fit", "compile", compile)
    eager: Step | DataParallelStep
    if ranks.several:
        params, state = broadcast_parameters(params, state, communicator)
        eager = make_data_parallel_step(net, loss, optimizer, communicator, observe=ranks.observe)
    else:
        eager = make_step(net, loss, optimizer, accumulate=accumulate)
    step = compile_step(eager) if compile else eager
    draw = batches or partial(_batches, seed)

    total = steps if epochs is None else None if batches else epochs * -(-n // batch_size)
    monitors = _monitors(net, params, loss, validation)
    in_place = compile and donates(params.xp)
    run = Run(
        *(net, loss, optimizer, params, state, monitors),
        in_place=in_place,
        settings=settings,
        callbacks=callbacks,
    )
    if found is not None:
        run.go_on(found, forget_stop=allow_changes)
    if (steps or run.step) < run.step or (epochs or run.epoch) < run.epoch:
        raise ResumeError(
            f"the run in {resume} has done {run.step} steps in {run.epoch} epochs already, more than "
            "it is asked for."
        )
    settling = [c for c in callbacks if type(c).on_settled is not Callback.on_settled]
    settles = ranks.any(bool(settling))
    noisy = net.noise(stream(seed, 0, 0), (1, *x.shape[1:])) is not None
    noise = partial(_noise, net, seed) if noisy else None
    # NumPy gathers every batch into the same memory, which the compiled step copies from.
    reuse = in_place and name_of(params.xp) == "numpy"
    inputs = _Inputs(x, t, sample_weight, noise, reuse=reuse)

    def validate() -> Evaluation | None:
        if validation is None:
            return None
        with np.errstate(all="ignore"):
            size = max(batch_size, 1000)
            return measured(net, run.params, *validation, loss, size, communicator)

    reported = run.step

    def report(bar: Any) -> None:
        nonlocal reported
        ranks.read_losses(run)
        losses = run.history.losses[reported:]
        if losses:
            reported = run.step
            bar.set_postfix(loss=f"{sum(losses) / len(losses):.4g}", refresh=False)
            bar.update(len(losses))
            ranks.call(callbacks, "on_report", run)

    def batch_of(rows: Any, k: int) -> dict[str, Any]:
        if not ranks.several:
            return inputs.of(rows, run.params, run.epoch, k)
        mine = shares(len(rows), communicator, accumulate)
        return {"parts": inputs.parts_of(rows, run.params, run.epoch, k, mine)}

    def settle(*, ending: bool = False) -> None:
        if settles:
            ranks.call(settling, "on_settled", run, ending=ending)

    def release() -> None:
        if not ranks.several:
            signals.release()
        elif ranks.any(signals.came):  # all stop after the same step
            signals.release()  # which raises where it came to
            raise KeyboardInterrupt

    def train(bar: Any) -> None:
        if ranks.several:  # a signal to one of them waits until all know of it
            signals.hold()
        ranks.call(callbacks, "on_start", run)
        if found is not None and found.run is not None and communicator.rank == 0:
            set_states(callbacks, found.run["callbacks"])
        run.settled = True
        # A run that ended within an epoch is resumed there, to end it the same way.
        while run.batch or not (run.stopped or run.epoch == epochs or run.step == steps):
            if not run.batch:
                run.began = time.perf_counter()
            done, first, sizes, whole = run.batch, run.step - run.batch, [], True
            for k, rows in enumerate(draw(n, batch_size, run.epoch)):
                if k >= done and (run.stopped or run.step == steps):
                    whole = False
                    break
                sizes.append(len(rows))
                if k < done:
                    continue
                batch = batch_of(rows, k)
                signals.hold()
                with np.errstate(all="ignore"):  # what overflows is found when losses are read
                    run.advance(step, batch)
                release()
                if run.step % report_every == 0:
                    report(bar)
                settle()
            if not sizes:
                raise ValueError(f"batches gave no batch for epoch {run.epoch}.")
            if len(sizes) < run.batch:
                raise ValueError(
                    f"batches gave {len(sizes)} for epoch {run.epoch}, but {run.batch} were done "
                    "before the run was resumed; resume it with the same batches."
                )
            report(bar)
            if not whole:
                settle(ending=True)
            measures = validate()
            signals.hold()
            run.settled, run.batch = False, 0
            run.epoch += 1
            run.history.epochs.append(
                EpochRecord(
                    epoch=run.epoch,
                    step=run.step,
                    train_loss=float(np.average(run.history.losses[first:], weights=sizes)),
                    validation_loss=None if measures is None else measures.loss,
                    validation_accuracy=None if measures is None else measures.accuracy,
                    lr=run.lr,
                    seconds=time.perf_counter() - run.began,
                )
            )
            ranks.call(callbacks, "on_epoch", run)
            if whole:
                run.settled = True
                settle()
            release()

    interrupted = False
    with (
        _bar(total, run.step, shown=progress and communicator.rank == 0) as bar,
        HeldSignals(signal.SIGINT, signal.SIGTERM) as signals,
    ):
        try:
            train(bar)
        except KeyboardInterrupt:
            if run.amid_step or (
                ranks.several and signals.holding
            ):  # whose parameters nobody can use
                raise
            interrupted, signals.holding = True, False
            ranks.read_losses(run)
        if run.settled:
            settle(ending=True)
        ranks.call(callbacks, "on_end", run)
    return FitResult(run.params, run.state, run.history, interrupted)


class _Inputs:
    """What the batches of a run are taken from."""

    def __init__(
        self,
        x: Array,
        t: Array,
        sample_weight: Array | None,
        noise: Callable[..., Any] | None,
        *,
        reuse: bool,
    ) -> None:
        self._arrays = {"x": x, "t": t, "sample_weight": sample_weight}
        self._noise = noise
        self._reuse = reuse
        self._buffers: dict[tuple[str, int, int], Array] = {}

    def of(self, rows: Any, params: Parameters, epoch: int, k: int) -> dict[str, Any]:
        """Take the k-th batch of an epoch, the arguments of a step."""
        (batch,) = self.parts_of(rows, params, epoch, k, [slice(0, len(rows))])
        return batch

    def parts_of(
        self, rows: Any, params: Parameters, epoch: int, k: int, parts: Sequence[slice]
    ) -> list[dict[str, Any]]:
        """Take some parts of the k-th batch of an epoch, each with its part of the batch's noise."""
        x = self._arrays["x"]
        rows = _checked(rows, x.shape[0])
        noise = self._noise and self._noise((rows.shape[0], *x.shape[1:]), epoch, k)
        return [self._part(i, rows, noise, part, params) for i, part in enumerate(parts)]

    def _part(
        self, i: int, rows: Any, noise: Any, part: slice, params: Parameters
    ) -> dict[str, Any]:
        mine = rows[part]
        if not self._reuse:
            mine = from_host(mine, params.xp, device=device_of(self._arrays["x"]))
        batch = {name: self._take(name, i, array, mine) for name, array in self._arrays.items()}
        own = _tree.map_leaves(lambda drawn: None if drawn is None else drawn[part], noise)
        return {**batch, "noise": noise_beside(params, own)}

    def _take(self, name: str, i: int, array: Array | None, rows: Any) -> Array | None:
        if array is None:
            return None
        if not self._reuse:
            return namespace(array).take(array, rows, axis=0)
        buffer = self._buffers.get((name, i, rows.size))
        if buffer is None:
            buffer = np.empty((rows.size, *array.shape[1:]), array.dtype)
            self._buffers[name, i, rows.size] = buffer
        # The rows are checked, and NumPy would take a copy in any other mode.
        return np.take(array, rows, axis=0, out=buffer, mode="clip")


def _noise(net: Layer, seed: int, shape: Shape, epoch: int, k: int) -> Any:
    return net.noise(stream(seed, epoch, k), shape)


def _ends(array: Array) -> tuple[int, ...]:
    """Give numbers that tell whether two arrays begin and end with the same rows."""
    return tuple(
        zlib.crc32(to_host(array[r, ...]).tobytes()) for r in (slice(0, 1), slice(-1, None))
    )


def _checked(rows: Any, n: int) -> Any:
    rows = np.asarray(rows)
    if rows.ndim != 1 or rows.size == 0 or rows.dtype.kind not in "iu":
        raise ValueError(
            f"a batch must be a vector of row indices, not of shape {rows.shape} and {rows.dtype}."
        )
    # JAX would not complain, but make up the missing rows.
    if rows.min() < 0 or rows.max() >= n:
        raise ValueError(f"a batch has row indices outside 0..{n - 1}.")
    return rows.astype(np.int64, copy=False)


def _batches(seed: int, n: int, batch_size: int, epoch: int) -> Iterator[Any]:
    return batch_indices(n, batch_size, seed=seed, epoch=epoch)


def _seed(seed: Any) -> int:
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or seed.__index__() < 0:
        raise ValueError(f"seed must be a whole number of at least 0, not {seed!r}.")
    return int(seed)


def _state(
    optimizer: Optimizer, params: Parameters, state: OptimizerState | None
) -> OptimizerState:
    """Make the optimizer's state, or check the given one against it."""
    fresh = optimizer.init(params)
    if state is None:
        return fresh
    if state.slots.keys() != fresh.slots.keys():
        raise ValueError(
            f"state has the slots {sorted(state.slots)}, but {type(optimizer).__name__} keeps "
            f"{sorted(fresh.slots)}; it comes from another optimizer."
        )
    _tree.leaves_like(state.slots, fresh.slots, names=("state.slots", "those of the optimizer"))
    return state


def _monitors(
    net: Layer, params: Parameters, loss: Loss, validation: tuple[Array, Array] | None
) -> tuple[str, ...]:
    """Tell which fields of `EpochRecord` a run will measure."""
    if validation is None:
        return ("train_loss",)
    x, t = (array[:1, ...] for array in validation)
    if loss.correct(net.forward(params, x)[0], t) is None:
        return ("train_loss", "validation_loss")
    return ("train_loss", "validation_loss", "validation_accuracy")


@contextlib.contextmanager
def _bar(total: int | None, done: int, *, shown: bool) -> Iterator[Any]:
    """Open a progress bar, or something that shows nothing in its place."""
    if not shown:
        yield _NoBar()
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, initial=done, unit="step") as bar:
        yield bar


class _NoBar:
    def set_postfix(self, **values: object) -> None:
        pass

    def update(self, steps: int) -> None:
        pass
