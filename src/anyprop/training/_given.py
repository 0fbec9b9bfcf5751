"""The arguments of `fit`: all are checked here, before any work, and nothing is checked again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from typing import Any

import numpy as np

from anyprop._checks import count, whole
from anyprop._typing import Array
from anyprop.backend import name_of
from anyprop.distributed.communicator import Communicator
from anyprop.layers.base import Layer
from anyprop.losses.base import Loss, check_loss
from anyprop.network import check_params
from anyprop.optimizers.base import Optimizer, check_optimizer
from anyprop.parameters import Parameters
from anyprop.sources import Source, Stream
from anyprop.training._argument_checks import (
    check_batches,
    check_callbacks,
    check_compile,
    check_length,
    check_progress,
    check_start,
    check_state,
    check_uncast,
)
from anyprop.training.batches import Batches, batch_indices, batches_of
from anyprop.training.callbacks.base import Callback
from anyprop.training.evaluate import Evaluation, measured
from anyprop.training.examples import Read, examples_of
from anyprop.training.ranks import Ranks
from anyprop.training.resume import settings_of_run


@dataclass(frozen=True)
class Given:
    """The arguments of `fit`, under its names."""

    net: Layer
    params: Parameters
    data: Any  # (x, t) or a Source; Examples when it is checked
    loss: Loss
    optimizer: Optimizer
    epochs: int | None
    steps: int | None
    batch_size: Any  # int or None; a number when it is checked, which says nothing of a stream
    validation: Any  # (x, t), a Source or None; Stored or None when it is checked
    sample_weight: Array | None
    seed: int
    batches: Batches | None
    accumulate: int
    compile: bool
    torch_backend: str | None
    state: Any  # OptimizerState or None; not None when it is checked
    resume: str | PathLike[str] | None
    allow_changes: bool
    callbacks: Sequence[Callback]
    report_every: int
    progress: bool

    def checked(self, *, several: bool) -> Given:
        """Check everything; return it with what was left out, `several` if there are several ranks."""
        net, params, loss, optimizer = self.net, self.params, self.loss, self.optimizer
        check_params(net, params)
        check_uncast(params)
        check_optimizer(optimizer)
        callbacks = check_callbacks(self.callbacks)
        data: Any = self.data
        if isinstance(data, Stream):
            self._check_stream(several=several)
        else:
            data = examples_of(
                "data", data, net, params, loss, sample_weight=self.sample_weight, augmenting=True
            )
        validation = self.validation
        if isinstance(validation, Stream):
            raise TypeError("fit: validation must be (x, t) or a Source, not a Stream.")
        if validation is not None:
            validation = examples_of("validation", validation, net, params, loss)
        epochs, steps = check_length(self.epochs, self.steps)
        check_batches(self.batches)
        check_start(self.state, self.resume, self.allow_changes)
        check_progress(self.progress)
        check_compile(self.compile, self.torch_backend, params, several=several)
        checked = replace(
            self,
            data=data,
            validation=validation,
            epochs=epochs,
            steps=steps,
            batch_size=count(
                "fit", "batch_size", 100 if self.batch_size is None else self.batch_size
            ),
            accumulate=count("fit", "accumulate", self.accumulate),
            seed=whole("seed", self.seed),
            report_every=count("fit", "report_every", self.report_every),
            callbacks=callbacks,
            state=check_state(optimizer, params, self.state),
        )
        if several:  # what cannot be described is refused here, where the ranks agree
            _ = checked.settings, checked.ends
        return checked

    def _check_stream(self, *, several: bool) -> None:
        check_loss(self.loss)
        for name in ("batch_size", "batches"):
            if getattr(self, name) is not None:
                raise ValueError(f"fit: a Stream brings its own batches; leave out {name}.")
        if self.sample_weight is not None:
            raise ValueError(
                "fit: sample_weight goes with arrays; give the weights as third value of each batch."
            )
        if several:
            raise ValueError("fit: a Stream is for one process; give the ranks a Source.")

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What the run's numbers depend on, except for the numbers of its data.

        Only a file or other ranks ask for it, since it calls a learning rate that is a function.
        """
        validation, source = self.validation, self.source
        weighted = self.rows is not None and self.data.first["sample_weight"] is not None
        return settings_of_run(
            self.net,
            self.loss,
            self.optimizer,
            self.params,
            self.callbacks,
            examples=self.rows,
            validation=None if validation is None else len(validation),
            weighted=weighted,
            batch_size=None if self.rows is None else self.batch_size,
            accumulate=self.accumulate,
            seed=self.seed,
            own_batches=self.batches is not None,
            block=source and source.block,
            augmented=source is not None and source.augment is not None,
        )

    @property
    def rows(self) -> int | None:
        """Number of examples; None if only those of each batch are known, when it comes."""
        return None if isinstance(self.data, Stream) else len(self.data)

    @property
    def source(self) -> Source | None:
        """The source of the examples, if they are not arrays beside the parameters."""
        return self.data.reader.source if isinstance(self.data, Read) else None

    @cached_property
    def ends(self) -> dict[str, Any]:
        """Numbers that are the same for data of which the first and the last example are the same."""
        validation = self.validation
        return {
            "rows at the ends of data": self.data.ends,
            "rows at the ends of validation": None if validation is None else validation.ends,
        }

    @property
    def total(self) -> int | None:
        """Number of steps of the whole run; None if unknown."""
        if self.epochs is None:
            return self.steps
        if self.batches is not None or self.rows is None:
            return None
        return self.epochs * batches_of(self.rows, self.batch_size)

    def draw(self, epoch: int) -> Iterable[Any]:
        """Draw the row indices of each batch of an epoch."""
        if self.rows is None:
            return ()  # the stream has an order of its own
        if self.batches is not None:
            return self.batches(self.rows, self.batch_size, epoch)
        block = None if self.source is None else self.source.block
        return batch_indices(self.rows, self.batch_size, seed=self.seed, epoch=epoch, block=block)

    def validate(self, params: Parameters, communicator: Communicator) -> Evaluation | None:
        """Measure parameters on the validation data; return None if there are none."""
        if self.validation is None:
            return None
        size = max(self.batch_size, 1000)
        with np.errstate(all="ignore"):
            return measured(self.net, params, self.validation, self.loss, size, communicator)


def check_alike(given: Given, ranks: Ranks) -> None:
    """Raise ValueError on all ranks if they were given different arguments."""
    if not ranks.several:
        return
    place = {"backend": name_of(given.params.xp), "layout": given.params.layout}
    length = {name: getattr(given, name) for name in ("epochs", "steps", "report_every")}
    start = {"resume": given.resume is not None, "allow_changes": given.allow_changes}
    others = {name: value for name, value in given.settings.items() if name != "callbacks"}
    ranks.check_same("fit", place | others | length | start | given.ends)
