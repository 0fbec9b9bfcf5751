"""`fit`: everything is checked before any work is done, and then the loop runs (`_loop.py`)."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from os import PathLike
from typing import Any, NamedTuple, ParamSpec

import numpy as np

from anyprop._checks import count, whole
from anyprop._signals import HeldSignals
from anyprop._typing import Array
from anyprop.backend import name_of, on_device_of
from anyprop.compiled.compile import compile as compile_step, compiled_loop, donates
from anyprop.distributed.communicator import Communicator
from anyprop.distributed.data_parallel import (
    DataParallelStep,
    broadcast_parameters,
    make_data_parallel_step,
)
from anyprop.distributed.serial import chosen
from anyprop.distributed.shards import shares
from anyprop.history import History
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss
from anyprop.network import check_params
from anyprop.optimizers.base import Optimizer, check_optimizer
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.step import Step, make_step
from anyprop.training._arguments import (
    check_batches,
    check_callbacks,
    check_compile,
    check_length,
    check_progress,
    check_start,
    check_state,
    monitors,
)
from anyprop.training._data import check_data
from anyprop.training._inputs import Inputs
from anyprop.training._loop import Loop
from anyprop.training._progress import progress_bar
from anyprop.training._ranks import Ranks, ends
from anyprop.training._steps import ManyAtOnce, OneByOne
from anyprop.training.batches import Batches, batch_indices
from anyprop.training.callbacks.base import Callback
from anyprop.training.evaluate import Evaluation, measured
from anyprop.training.resume import ResumeError, load_run, settings_of_run
from anyprop.training.run import Run

_MOST_AT_ONCE = 100


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


_P = ParamSpec("_P")


def _on_device_of_params(function: Callable[_P, FitResult]) -> Callable[_P, FitResult]:
    """Let a function compute where its argument `params`, the second, lies."""

    @functools.wraps(function)
    def on_device(*args: _P.args, **kwargs: _P.kwargs) -> FitResult:
        params: Any = args[1] if len(args) > 1 else kwargs.get("params")
        with on_device_of(params.flat if isinstance(params, Parameters) else None):
            return function(*args, **kwargs)

    return on_device


@_on_device_of_params
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
    compile: bool | str = True,
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
    compile : bool or str
        Whether the step is compiled, see `anyprop.compile`; on PyTorch also what `torch.compile` shall
        compile it with, such as ``"inductor"``. A layer or loss of your own is then called twice
        for the first batch of each shape, and twice more in a long run, and what it computes is
        repeated. If the two times differ, the step runs as it is, with a warning.
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
        backend, to rounding on another. `epochs` and `steps` count from its beginning. Settings are
        compared, a learning rate of your own by its values at some steps; of `batches` only whether
        there are any, since to call it could change what it gives.
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
        ``(params, state, history, interrupted)``. Ctrl-C ends the training after the present step (on
        JAX, after those of a tenth of a second; on CuPy, after those that are launched already) and
        returns what was trained, with ``interrupted=True``; a second one does not wait, and leaves `fit`
        as KeyboardInterrupt.

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
    Exception
        Whatever a callback, a schedule, `batches` or the network raises, as it was raised. Once the
        training has begun, the error carries `params`, `state` and `history` as
        TrainingDivergedError does, as far as they are known to be whole. Where a callback, a schedule,
        `batches`, the validation or the progress bar fails on one rank alone, the others end with a
        RuntimeError that names the rank and its error.

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
    communicator = chosen(communicator)
    ranks = Ranks(communicator)
    with ranks.agreeing(refusing=True):
        check_params(net, params)
        check_optimizer(optimizer)
        callbacks = check_callbacks(callbacks)
        x, t = check_data("data", data, net, params, loss, sample_weight)
        n = x.shape[0]
        if validation is not None:
            validation = check_data("validation", validation, net, params, loss)
        epochs, steps = check_length(epochs, steps)
        batch_size = count("fit", "batch_size", batch_size)
        accumulate = count("fit", "accumulate", accumulate)
        report_every = count("fit", "report_every", report_every)
        seed = whole("seed", seed)
        check_batches(batches)
        check_start(state, resume, allow_changes)
        check_progress(progress)
        check_compile(compile, params, several=ranks.several)
        state = check_state(optimizer, params, state)
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
    if ranks.several:
        place = {"backend": name_of(params.xp), "layout": params.layout}
        length = {"epochs": epochs, "steps": steps, "report_every": report_every}
        start = {"resume": resume is not None, "allow_changes": allow_changes}
        rows = {"rows at the ends of data": (ends(x), ends(t))}
        others = {name: value for name, value in settings.items() if name != "callbacks"}
        ranks.check_same("fit", place | others | length | start | rows)
    found = None
    if resume is not None:
        load = partial(load_run, resume, params, settings, allow_changes=allow_changes)
        found = ranks.read(load, params)
        params = found.params
        with ranks.agreeing(refusing=True):
            state = check_state(optimizer, params, found.state)
    if ranks.several:
        params, state = broadcast_parameters(params, state, communicator)

    in_place = bool(compile) and donates(params.xp)
    with ranks.agreeing(refusing=True):
        eager: Step | DataParallelStep
        parts = None
        if ranks.several:
            eager = make_data_parallel_step(
                net, loss, optimizer, communicator, observe=ranks.observe
            )
            parts = partial(shares, communicator=communicator, parts=accumulate)
        else:
            eager = make_step(net, loss, optimizer, accumulate=accumulate)
        run = Run(
            *(net, loss, optimizer, params, state, monitors(net, params, loss, validation)),
            in_place=in_place,
            settings=settings,
            callbacks=callbacks,
        )
        if found is not None:
            run.go_on(found, forget_stop=allow_changes)
        if (steps or run.step) < run.step or (epochs or run.epoch) < run.epoch:
            raise ResumeError(
                f"the run in {resume} has done {run.step} steps in {run.epoch} epochs already, more "
                "than it is asked for."
            )
        # NumPy gathers every batch into the same memory, which the compiled step copies from.
        reuse = in_place and name_of(params.xp) == "numpy"
        inputs = Inputs(net, x, t, sample_weight, seed=seed, reuse=reuse, parts=parts)
        how = _steps(eager, inputs, params, compile=compile, most=min(report_every, _MOST_AT_ONCE))

    def validate() -> Evaluation | None:
        if validation is None:
            return None
        with np.errstate(all="ignore"):
            size = max(batch_size, 1000)
            return measured(net, run.params, *validation, loss, size, communicator)

    states = None
    if found is not None and found.run is not None and communicator.rank == 0:
        states = found.run["callbacks"]
    total = steps if epochs is None else None if batches else epochs * -(-n // batch_size)
    shown = progress and communicator.rank == 0
    with HeldSignals(signal.SIGINT, signal.SIGTERM) as signals:
        loop = Loop(
            run,
            steps=how,
            draw=partial(batches or partial(_batches, seed), n, batch_size),
            validate=validate,
            last_epoch=epochs,
            last_step=steps,
            report_every=report_every,
            ranks=ranks,
            states=states,
            open_bar=partial(progress_bar, total, run.step, shown=shown),
            signals=signals,
        )
        interrupted = loop.go()
    return FitResult(run.params, run.state, run.history, interrupted)


def _steps(
    eager: Step | DataParallelStep,
    inputs: Inputs,
    params: Parameters,
    *,
    compile: bool | str,
    most: int,
) -> OneByOne | ManyAtOnce:
    """Choose how the steps of a run are done."""
    if not compile:
        return OneByOne(eager, inputs)
    torch_backend = compile if isinstance(compile, str) else None
    one_by_one = OneByOne(compile_step(eager, torch_backend=torch_backend), inputs)
    # Noise is drawn on the host for each step, and would have to wait there for all the others.
    loop = None if inputs.noisy else compiled_loop(eager, params.xp, most)
    return one_by_one if loop is None else ManyAtOnce(loop, most, inputs, instead=one_by_one)


def _batches(seed: int, n: int, batch_size: int, epoch: int) -> Iterator[Any]:
    return batch_indices(n, batch_size, seed=seed, epoch=epoch)
