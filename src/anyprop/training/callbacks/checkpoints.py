"""Checkpoints: states from which a run can be resumed, and its best network."""

from __future__ import annotations

from os import PathLike

from anyprop._checks import choice, count
from anyprop._files import as_path, naming, remove_parts
from anyprop._locks import locked
from anyprop.checkpoint import check_dtypes
from anyprop.training.callbacks.monitor import MONITORS, Monitor, Monitoring
from anyprop.training.resume import (
    PATTERN,
    checkpoint_name,
    checkpoints_in,
    save_model,
    save_run,
)
from anyprop.training.run import Run

_BEST = "best.safetensors"


class Checkpoints(Monitoring):
    """Write checkpoints into a folder, every few steps and when the run ends, however it does.

    ``fit(resume=folder)`` goes on from the newest, ``step-00001000.safetensors`` by name. The network of
    the best epoch is kept as ``best.safetensors``, for `anyprop.load`; nothing can be resumed from it.

    Parameters
    ----------
    folder : str or path
        Where to write; created if it is missing.
    every : int >= 1, optional
        Number of steps between two checkpoints; an epoch by default.
    keep : int >= 1
        Number of checkpoints to keep; older ones are removed when a newer one is safe on the disk.
    monitor : {"validation_loss", "validation_accuracy", "train_loss"}, optional
        The measure of the best epoch: the validation loss by default, the training loss where there
        are no validation data.

    Raises
    ------
    ValueError
        Options out of range; at the start of a run that is not resumed, the folder has checkpoints;
        another run that has not ended writes into the folder.
    TypeError
        At the start of a run: the parameters are of a dtype that no file holds, such as bfloat16.
    OSError
        The folder or a checkpoint cannot be written; the error names it. The ones before it are still
        there, whole.

    Examples
    --------
    >>> callback = Checkpoints("runs/mine", every=500, keep=2)
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        *,
        every: int | None = None,
        keep: int = 3,
        monitor: str | None = None,
    ) -> None:
        self.folder = self._place = as_path(folder, "folder")
        self.every = None if every is None else count("Checkpoints", "every", every)
        self.keep = count("Checkpoints", "keep", keep)
        if monitor is not None:
            choice("monitor", monitor, MONITORS)
        self.monitor = monitor

    def on_start(self, run: Run) -> None:
        check_dtypes(run.params)
        measured = "validation_loss" if "validation_loss" in run.monitors else "train_loss"
        self._monitor = Monitor(self.monitor or measured, 0.0)
        super().on_start(run)
        self._saved = run.step if run.resumed else None
        with naming(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            run.hold(locked(self.folder))
            remove_parts(self.folder, PATTERN, _BEST)
        found = checkpoints_in(self.folder)
        if found and not run.resumed:
            raise ValueError(
                f"{self.folder} has checkpoints of an earlier run: resume it, or choose another folder."
            )
        for step, path in found:
            if step > run.step:  # it would be taken for the newest of this run
                path.replace(path.with_name(f"{path.name}.old"))
        self._remove_old_ones()  # a kill may have come before

    def on_epoch(self, run: Run) -> None:
        if self._monitor.look(run):
            save_model(self.folder / _BEST, run)

    def on_settled(self, run: Run, *, ending: bool) -> None:
        due = run.batch == 0 if self.every is None else run.step % self.every == 0
        if (due or ending) and run.step != self._saved:
            save_run(self.folder / checkpoint_name(run.step), run)
            self._saved = run.step
            self._remove_old_ones()

    def _remove_old_ones(self) -> None:
        for _, path in checkpoints_in(self.folder)[self.keep :]:
            path.unlink(missing_ok=True)
