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
import math
import operator
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from anyprop._checks import kind
from anyprop._signals import HeldSignals
from anyprop.history import EpochRecord
from anyprop.parameters import Parameters
from anyprop.sources.stream import no_batch
from anyprop.training._data_checks import check_total
from anyprop.training._progress import Bar
from anyprop.training.callbacks.base import Callback
from anyprop.training.evaluate import Evaluation
from anyprop.training.pace import ManyAtOnce, OneByOne
from anyprop.training.ranks import Ranks
from anyprop.training.resume import set_states
from anyprop.training.run import Run


@dataclass
class Loop:
    """Runs a run to its end: `last_epoch` or `last_step`, whichever comes first."""

    run: Run
    steps: OneByOne | ManyAtOnce
    draw: Callable[[int], Iterable[Any]]  # epoch -> the row indices of each of its batches
    validate: Callable[[Parameters], Evaluation | None]  # None if there are no data for it
    ranks: Ranks
    last_epoch: int | None = None
    last_step: int | None = None
    report_every: int = sys.maxsize  # steps; a report comes after each epoch in any case
    bar: Bar = field(default_factory=Bar)

    def __post_init__(self) -> None:
        self._reported = self.run.step
        callbacks = self.run.callbacks
        self._settling = [c for c in callbacks if type(c).on_settled is not Callback.on_settled]
        self._settles = self.ranks.any(bool(self._settling))

    def go(self) -> KeyboardInterrupt | None:
        """Train; return what interrupted it between two steps, if anything did."""
        with (
            HeldSignals(signal.SIGINT, signal.SIGTERM) as self._signals,
            contextlib.ExitStack() as opened,
        ):
            opened.callback(self._close_bar_quietly)
            opened.callback(self.run.close)
            interrupt = self._go()
            with self.ranks.agreeing():
                self.bar.close()
                self.run.close()
        return interrupt

    def _close_bar_quietly(self) -> None:
        """Close it after an error, which is the one to be reported."""
        with contextlib.suppress(Exception):
            self.bar.close()

    def _go(self) -> KeyboardInterrupt | None:
        """Train, and call the callbacks a last time; return what interrupted it."""
        run, interrupt = self.run, None
        try:
            self.train()
        except KeyboardInterrupt as raised:
            # In the middle of a step there are no whole parameters.
            if run.amid_step or (self.ranks.several and self._signals.holding):
                raise
            interrupt, self._signals.holding = raised, False
            self.ranks.read_losses(run)
        if run.settled:
            self._settle(ending=True)
        self._call("on_end")
        return interrupt

    def train(self) -> None:
        """Train until the run is complete, or stopped, or a signal comes."""
        run = self.run
        if self.ranks.several:  # a signal to one of them waits until all know of it
            self._signals.hold()
        self._call("on_start")
        set_states(run.callbacks, run.remembered)
        run.settled = True
        # A run that ended within an epoch is resumed there, to end it the same way.
        while run.batch or not (run.stopped or self._complete or run.epoch == self.last_epoch):
            self.epoch()

    def epoch(self) -> None:
        """Complete the present epoch, and record it."""
        run = self.run
        if not run.batch:
            run.began, run.waited = time.perf_counter(), None
        first = run.step - run.batch
        with contextlib.closing(self.steps.inputs):
            sizes, whole = self._batches()
        self._report()
        if not whole:
            self._settle(ending=True)
        losses = run.history.losses[first:]
        if whole and not any(losses) and not self.ranks.any(self.steps.inputs.weighed):
            check_total("data", 0.0)
        measures = self.validate(run.params)
        self._signals.hold()
        run.settled, run.batch = False, 0
        run.epoch += 1
        run.history.epochs.append(
            EpochRecord(
                epoch=run.epoch,
                step=run.step,
                train_loss=math.fsum(map(operator.mul, losses, sizes)) / sum(sizes),
                validation_loss=None if measures is None else measures.loss,
                validation_accuracy=None if measures is None else measures.accuracy,
                lr=run.lr,
                seconds=time.perf_counter() - run.began,
                waited=run.waited,
            )
        )
        self._call("on_epoch")
        if whole:
            run.settled = True
            self._settle()
        self._release()

    def _batches(self) -> tuple[list[int], bool]:
        """Run the batches that are left; return the sizes of all, and whether the epoch is complete."""
        run, done, sizes, whole = self.run, self.run.batch, [], True
        inputs, waiting = self.steps.inputs, list[Any]()
        before = run.waited or 0.0  # it was interrupted, and is resumed
        drawn = self._drawn_by_all() if self.ranks.several else self._drawn()
        for k, rows in enumerate(drawn):
            if k >= done:
                if waiting and np.size(rows) != np.size(waiting[0]):
                    self._take(waiting)
                if run.stopped or self._complete:
                    whole = False
                    break
                # Several ranks have agreed on it already.
                waiting.append(rows if self.ranks.several else inputs.ready(rows))
                if inputs.waited is not None:
                    run.waited = before + inputs.waited
                if len(waiting) == self._room or inputs.ended:
                    self._take(waiting)
            sizes.append(np.size(rows))
        if waiting:
            self._take(waiting)
        if not sizes:
            raise no_batch(run.epoch)
        if len(sizes) < run.batch:
            raise ValueError(
                f"batches gave {len(sizes)} for epoch {run.epoch}, but {run.batch} were done "
                "before the run was resumed; resume it with the same batches."
            )
        return sizes, whole

    def _drawn(self) -> Iterable[Any]:
        batches = self.draw(self.run.epoch)
        if not hasattr(batches, "__iter__"):
            raise TypeError(
                f"batches gave {kind(batches)} for epoch {self.run.epoch}, expected the row indices "
                "of each batch."
            )
        return self.steps.inputs.following(batches, self.run.epoch)

    def _drawn_by_all(self) -> Iterator[Any]:
        """Draw the batches of the present epoch; the ranks agree on each before they take it."""
        run, done = self.run, self.run.batch
        batches: Iterator[Any] | None = None
        k = -1

        def draw() -> tuple[Any, bytes]:
            nonlocal batches, k
            if batches is None:
                batches = iter(self._drawn())
            rows, k = next(batches, None), k + 1
            if rows is None or run.stopped or self._complete:
                return rows, str(rows is None).encode()
            if k < done:
                return rows, b""
            lr = run.optimizer.learning_rate(run.state)
            told = repr(lr).encode() if isinstance(lr, float) else b""
            return self.steps.inputs.ready(rows), np.asarray(rows).tobytes() + told

        while True:
            rows, came = self.ranks.alike(draw, self._signals.came)
            if came:  # to one of them, and all stop after the same step
                self._signals.release()  # which raises if it came to
                raise KeyboardInterrupt
            if rows is None:
                return
            yield rows

    def _take(self, batches: list[Any]) -> None:
        """Run a step with each of the batches, and empty the list."""
        run = self.run
        self._signals.hold()
        with np.errstate(all="ignore"):  # what overflows is detected when losses are read
            self.steps.take(run, batches)
        batches.clear()
        if not self.ranks.several:
            self._signals.release()
        if run.step % self.report_every == 0:
            self._report()
        self._settle()

    @property
    def _room(self) -> int:
        """Number of steps until the next report, callback or end of the run."""
        if self._settles or self.steps.at_once == 1:
            return 1
        to_report = self.report_every - self.run.step % self.report_every
        to_end = to_report if self.last_step is None else self.last_step - self.run.step
        return min(self.steps.at_once, to_report, to_end)

    @property
    def _complete(self) -> bool:
        return self.run.step == self.last_step

    def _report(self) -> None:
        run = self.run
        self.ranks.read_losses(run)
        losses = run.history.losses[self._reported :]
        if losses:
            self._reported = run.step
            mean = sum(losses) / len(losses)
            self._call("on_report", partial(self.bar.show, len(losses), mean, run.waiting))

    def _settle(self, *, ending: bool = False) -> None:
        """Call the callbacks' `on_settled`: the run can be resumed from here."""

        def call() -> None:
            for callback in self._settling:
                callback.on_settled(self.run, ending=ending)

        if self._settles:
            self.ranks.call(call, self.run)

    def _release(self) -> None:
        """Make a signal take effect that came since `hold`."""
        if not self.ranks.several:
            self._signals.release()
        elif self.ranks.any(self._signals.came):  # all stop after the same step
            self._signals.release()  # which raises if it came to
            raise KeyboardInterrupt

    def _call(self, event: str, before: Callable[[], object] | None = None) -> None:
        def call() -> None:
            if before is not None:
                before()
            for callback in self.run.callbacks:
                getattr(callback, event)(self.run)

        self.ranks.call(call, self.run)
