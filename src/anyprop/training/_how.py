"""How the steps of a run are done: on one rank or several; eager, compiled, or many in one call."""

from __future__ import annotations

from functools import partial

from anyprop.backend import name_of
from anyprop.compiled.compile import compile as compile_step, compiled_loop, donates
from anyprop.distributed.data_parallel import DataParallelStep, make_data_parallel_step
from anyprop.distributed.shards import shares
from anyprop.sources import Stream
from anyprop.step import Step, make_step
from anyprop.training._given import Given
from anyprop.training.examples import Read
from anyprop.training.inputs import ArrayInputs
from anyprop.training.pace import MOST_AT_ONCE, ManyAtOnce, OneByOne
from anyprop.training.portions import SourceInputs
from anyprop.training.ranks import Ranks
from anyprop.training.streamed import StreamInputs


def works_in_place(given: Given) -> bool:
    """Return whether steps overwrite the parameters and the state that they are given."""
    return given.compile and donates(given.params.xp, given.torch_backend)


def steps_of(given: Given, ranks: Ranks) -> OneByOne | ManyAtOnce:
    """Choose how the steps of a run are done."""
    eager, xp = _eager(given, ranks), given.params.xp
    inputs = _inputs(given, ranks)
    if not given.compile:
        return OneByOne(eager, inputs)
    one_by_one = OneByOne(compile_step(eager, torch_backend=given.torch_backend), inputs)
    if isinstance(inputs, StreamInputs):
        return one_by_one
    most = min(given.report_every, MOST_AT_ONCE)
    # Noise is drawn on the host for each step, and would have to wait there for all the others. Graphs
    # of CuPy could read portions where they lie, as stand-ins do; no GPU has shown it yet.
    here = isinstance(inputs, ArrayInputs) or name_of(xp) != "cupy"
    loop = compiled_loop(eager, xp, most) if here and not inputs.noisy else None
    return one_by_one if loop is None else ManyAtOnce(loop, most, inputs, instead=one_by_one)


def _eager(given: Given, ranks: Ranks) -> Step | DataParallelStep:
    net, loss, optimizer = given.net, given.loss, given.optimizer
    if ranks.several:
        communicator, observe = ranks.communicator, ranks.observe
        return make_data_parallel_step(net, loss, optimizer, communicator, observe=observe)
    return make_step(net, loss, optimizer, accumulate=given.accumulate)


def _inputs(given: Given, ranks: Ranks) -> ArrayInputs | SourceInputs | StreamInputs:
    if isinstance(given.data, Stream):
        return StreamInputs(given.net, given.data, given.params, given.loss, seed=given.seed)
    parts = None
    if ranks.several:
        parts = partial(shares, communicator=ranks.communicator, parts=given.accumulate)
    trusted = given.batches is None
    if isinstance(given.data, Read):
        size = ranks.communicator.size
        return SourceInputs(
            given.net, given.data.reader, seed=given.seed, trusted=trusted, parts=parts, ranks=size
        )
    return ArrayInputs(
        given.net,
        given.data.x,
        given.data.t,
        given.data.weight,
        seed=given.seed,
        # NumPy gathers every batch into the same memory, which the compiled step copies from.
        reuse=works_in_place(given) and name_of(given.params.xp) == "numpy",
        trusted=trusted,
        parts=parts,
    )
