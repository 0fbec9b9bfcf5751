"""`fit`: the arguments are checked, a run begins or resumes, and the loop runs to its end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from os import PathLike
from typing import NamedTuple

from anyprop._typing import Array
from anyprop._usage import usage
from anyprop.backend import on_device_of
from anyprop.distributed.communicator import Communicator
from anyprop.distributed.serial import chosen
from anyprop.history import History
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss
from anyprop.optimizers.base import Optimizer
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters
from anyprop.sources import Source, Stream
from anyprop.training._given import Given, check_alike
from anyprop.training._how import steps_of
from anyprop.training._progress import Bar
from anyprop.training._resumed import begun
from anyprop.training.batches import Batches
from anyprop.training.callbacks.base import Callback
from anyprop.training.loop import Loop
from anyprop.training.ranks import Ranks


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

    def __repr__(self) -> str:
        ended = ", interrupted" if self.interrupted else ""
        return f"FitResult({self.params.size:,} parameters, {self.history!r}{ended})"


@usage("fit(net, params, (x, t), loss=..., optimizer=...), with params = net.init()")
def fit(
    net: Layer,
    params: Parameters,
    data: tuple[Array, Array] | Source | Stream,
    *,
    loss: Loss,
    optimizer: Optimizer,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    validation: tuple[Array, Array] | Source | None = None,
    sample_weight: Array | None = None,
    seed: int = 0,
    batches: Batches | None = None,
    accumulate: int = 1,
    compile: bool = True,
    torch_backend: str | None = None,
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
        Starting values, from `net.init`; left as they are.
    data : (x, t), Source or Stream
        Examples x, shape (N, D), and targets t as the loss takes them. Both are beside the parameters
        and stay there; only row indices are moved. x has the dtype of the parameters, or one whose
        numbers it holds exactly, such as uint8 or float16 for float32, of which each batch is cast. Or a
        `Source`, of which a part at a time is read and moved; or, for one process, a `Stream`, whose
        batches are taken as they come.
    loss : Loss
        The loss to minimize.
    optimizer : Optimizer
        The optimizer that updates the parameters.
    epochs : int >= 1, optional
        Passes through the data; 1 if `steps` is not given either.
    steps : int >= 1, optional
        Updates, instead of epochs.
    batch_size : int >= 1, optional
        Rows in a batch, 100 by default; the last batch of an epoch may be smaller. A stream has its own.
    validation : (x, t) or Source, optional
        Examples to measure on after every epoch, as by `evaluate`.
    sample_weight : array, shape (N,), optional
        Weights of the training examples; those of a `Source` or `Stream` are in it.
    seed : int >= 0
        Seed of the order of the examples and the noise of dropout: both are functions of (seed, epoch),
        the same on every backend.
    batches : callable, optional
        ``batches(n, batch_size, epoch)`` returns the row indices of each batch of an epoch, 0 the
        first, as NumPy arrays; by default `batch_indices` with `seed`.
    accumulate : int >= 1
        Number of parts that a batch is split into to save memory, see `make_step`.
    compile : bool
        Whether the step is compiled, see `anyprop.compile`. A layer or loss of your own is then called
        twice for the first batch of each shape, and twice more in a long run, and what it computes is
        repeated. If the two times differ, the step runs as it is, with a warning.
    torch_backend : str, optional
        On PyTorch, what `torch.compile` should compile the step with, see `anyprop.compile`.
    communicator : Communicator, optional
        The ranks of a job, see `anyprop.distributed`; this process alone by default. Every rank calls
        `fit` with the same arguments and trains on its share of each batch; parameters and state are
        those of rank 0. Callbacks are called on rank 0 only, and what they do to the run holds for
        all. The results are those of one process, to rounding.
    state : OptimizerState, optional
        State that the optimizer continues from, left as it is; its initial state by default.
    resume : str or path, optional
        A checkpoint that `Checkpoints` wrote, or a folder of them, of which the newest is taken. The
        run goes on from there as if it had not ended: the same numbers bit for bit on the same
        backend, to rounding on another. `epochs` and `steps` count from its beginning. Settings are
        compared, a learning rate of your own by its values at some steps; of `batches` only whether
        there are any, since calling it could change what it returns. Of a stream the batches of the
        present epoch that were done are taken once more, and passed over.
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
        JAX, after those of a tenth of a second; on CuPy, after those that are launched already), or when
        what is being read of a `Source` or `Stream` has come, and returns what was trained, with
        ``interrupted=True``. A second one does not wait for either. A read is given up, and what was
        trained is returned all the same; a step (on several ranks whatever runs) is left as
        KeyboardInterrupt, which carries `params`, `state` and `history` as other errors do.

    Warns
    -----
    RuntimeWarning
        Once, when the step cannot be compiled and runs as it is; the message says why.

    Raises
    ------
    TrainingDivergedError
        The loss or a parameter became NaN or infinite. The error holds the step, the history, and
        the last good `params` and `state`.
    DataError
        A `Source` or `Stream` failed after the first step: it raised, changed its shape, or gave numbers
        that cannot be trained on, of which the message names the row. The error holds the epoch, the
        batch, the rows, and the last `params` and `state`. Before the first step it is what was raised.
    TypeError
        Before any work: arrays of different namespaces or devices, or x of a dtype that the
        parameters' does not hold, such as int32 or float64 for float32.
    ValueError
        Before any work: shapes, targets or options that do not fit.
    ResumeError
        Before any work, a ValueError: there is no checkpoint to resume from, or it has other settings,
        which the message names.
    FileNotFoundError
        Before any work: `resume` is no file or folder that is there.
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
    given = Given(
        net,
        params,
        data,
        loss,
        optimizer,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        validation=validation,
        sample_weight=sample_weight,
        seed=seed,
        batches=batches,
        accumulate=accumulate,
        compile=compile,
        torch_backend=torch_backend,
        state=state,
        resume=resume,
        allow_changes=allow_changes,
        callbacks=callbacks,
        report_every=report_every,
        progress=progress,
    )
    with on_device_of(params.flat if isinstance(params, Parameters) else None):
        return _fitted(given, Ranks(chosen(communicator)))


def _fitted(given: Given, ranks: Ranks) -> FitResult:
    with ranks.agreeing(refusing=True):
        given = given.checked(several=ranks.several)
    check_alike(given, ranks)
    run = begun(given, ranks)
    with ranks.agreeing(refusing=True):
        how = steps_of(given, ranks)
    first = ranks.communicator.rank == 0  # alone calls the callbacks and shows a bar
    loop = Loop(
        run,
        how,
        draw=given.draw,
        validate=partial(given.validate, communicator=ranks.communicator),
        ranks=ranks,
        last_epoch=given.epochs,
        last_step=given.steps,
        report_every=given.report_every,
        bar=Bar(given.total, run.step, shown=given.progress and first),
    )
    with run.handing_over():
        interrupt = loop.go()
    return FitResult(run.params, run.state, run.history, interrupt is not None)
