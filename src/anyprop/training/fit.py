"""`fit`: everything is checked before any work is done, and then the loop runs (`_loop.py`)."""

from __future__ import annotations

import importlib.util
import signal
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from anyprop import _tree
from anyprop._checks import count, flag, kind, whole
from anyprop._typing import Array
from anyprop.backend import name_of, to_host
from anyprop.compiled.dispatch import compile as compile_step, compiled_loop, donates
from anyprop.compiled.torch_compiled import check_torch_backend
from anyprop.distributed.communicator import Communicator
from anyprop.distributed.data_parallel import (
    DataParallelStep,
    broadcast_parameters,
    make_data_parallel_step,
)
from anyprop.distributed.serial import chosen
from anyprop.distributed.shards import shares
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss
from anyprop.network import check_params
from anyprop.optimizers.base import Optimizer, OptimizerState, check_optimizer
from anyprop.parameters import Parameters
from anyprop.training._data import check_data, check_finite, check_sample_weight
from anyprop.training._inputs import Inputs
from anyprop.training._loop import Loop
from anyprop.training._progress import progress_bar
from anyprop.training._ranks import Ranks
from anyprop.training._signals import HeldSignals
from anyprop.training._steps import ManyAtOnce, OneByOne
from anyprop.training.batches import Batches, batch_indices
from anyprop.training.callbacks.base import Callback
from anyprop.training.evaluate import Evaluation, measured
from anyprop.training.history import History
from anyprop.training.resume import ResumeError, load_run, settings_of_run
from anyprop.training.run import Run
from anyprop.training.step import Step, make_step

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
        compile it with, such as ``"inductor"``. A layer or loss of your own is then called for the
        first batch of each shape, and once more in a long run, and what it computes is repeated; one
        that acts differently from step to step needs ``compile=False``.
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
        TrainingDivergedError does, as far as they are known to be whole. Where a callback fails on
        rank 0, the other ranks end with a RuntimeError that says so.

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
    with ranks.agreeing():
        check_params(net, params)
        check_optimizer(optimizer)
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
        seed = whole("seed", seed)
        allow_changes = flag("fit", "allow_changes", allow_changes)
        progress = flag("fit", "progress", progress)
        _check_callbacks(callbacks)
        if batches is not None and not callable(batches):
            raise TypeError(
                "fit: batches must be a function (n, batch_size, epoch) that gives the row indices of "
                f"each batch, not {kind(batches)}."
            )
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
    with ranks.agreeing():
        state = _state(optimizer, params, state)
        if progress and importlib.util.find_spec("tqdm") is None:
            raise ImportError('progress=True needs tqdm; run pip install "anyprop[cli]".')
        if isinstance(compile, str):
            check_torch_backend(compile, params.xp)
            if ranks.several:
                raise ValueError(f"compile={compile!r} is for one process; leave it out.")
        elif not isinstance(compile, (bool, np.bool_)):
            raise TypeError(
                "fit: compile must be True, False or, for PyTorch arrays, a backend of torch.compile "
                f"such as 'inductor', not {compile!r}."
            )
    eager: Step | DataParallelStep
    parts = None
    if ranks.several:
        params, state = broadcast_parameters(params, state, communicator)
        eager = make_data_parallel_step(net, loss, optimizer, communicator, observe=ranks.observe)
        parts = partial(shares, communicator=communicator, parts=accumulate)
    else:
        eager = make_step(net, loss, optimizer, accumulate=accumulate)

    in_place = bool(compile) and donates(params.xp)
    run = Run(
        *(net, loss, optimizer, params, state, _monitors(net, params, loss, validation)),
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

    def validate() -> Evaluation | None:
        if validation is None:
            return None
        with np.errstate(all="ignore"):
            size = max(batch_size, 1000)
            return measured(net, run.params, *validation, loss, size, communicator)

    states = None
    if found is not None and found.run is not None and communicator.rank == 0:
        states = found.run["callbacks"]
    # NumPy gathers every batch into the same memory, which the compiled step copies from.
    reuse = in_place and name_of(params.xp) == "numpy"
    inputs = Inputs(net, x, t, sample_weight, seed=seed, reuse=reuse, parts=parts)
    total = steps if epochs is None else None if batches else epochs * -(-n // batch_size)
    shown = progress and communicator.rank == 0
    with (
        progress_bar(total, run.step, shown=shown) as bar,
        HeldSignals(signal.SIGINT, signal.SIGTERM) as signals,
    ):
        loop = Loop(
            run,
            steps=_steps(
                eager, inputs, params, compile=compile, most=min(report_every, _MOST_AT_ONCE)
            ),
            draw=partial(batches or partial(_batches, seed), n, batch_size),
            validate=validate,
            last_epoch=epochs,
            last_step=steps,
            report_every=report_every,
            ranks=ranks,
            states=states,
            bar=bar,
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


def _ends(array: Array) -> tuple[int, ...]:
    """Give numbers that tell whether two arrays begin and end with the same rows."""
    return tuple(
        zlib.crc32(to_host(array[r, ...]).tobytes()) for r in (slice(0, 1), slice(-1, None))
    )


def _batches(seed: int, n: int, batch_size: int, epoch: int) -> Iterator[Any]:
    return batch_indices(n, batch_size, seed=seed, epoch=epoch)


def _check_callbacks(callbacks: Any) -> None:
    # A single one is likely meant to be in a list.
    found = callbacks if isinstance(callbacks, Sequence) else [None]
    if not all(isinstance(callback, Callback) for callback in found):
        raise TypeError(
            "callbacks must be a sequence of callbacks such as [anyprop.EarlyStopping()], "
            f"not {callbacks!r}."
        )


def _state(
    optimizer: Optimizer, params: Parameters, state: OptimizerState | None
) -> OptimizerState:
    """Make the optimizer's state, or check the given one against it."""
    fresh = optimizer.init(params)
    if state is None:
        return fresh
    if not isinstance(state, OptimizerState):
        raise TypeError(
            f"state must be what {type(optimizer).__name__}.init() returns, not {kind(state)}."
        )
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
