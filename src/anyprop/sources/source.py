"""Examples that lie on the host, in memory or in files, of which a few are read at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from anyprop._checks import count, fields, flag, has, kind, optional, takes, worded
from anyprop._typing import Array
from anyprop._usage import Advising
from anyprop.sources.parts import (
    NAMES,
    at_least_zero,
    check_like,
    floating,
    parts_of,
    rounded,
    several,
)
from anyprop.sources.reading import check_numbers, on_host, rows_of


@dataclass(frozen=True, eq=False, repr=False)
class Source(Advising):
    """Examples that lie on the host, in memory or in files, and are read while others are trained on.

    `fit`, `evaluate` and `predict` take one wherever they take (x, t). The batches are those that the
    same arrays in memory would give, in the same order, and so are the results, bit for bit; only the
    rows of some batches are in memory at a time. Each rank of a job reads its own rows.

    Parameters
    ----------
    data : (x, t), (x, t, weight) or object
        Arrays with `shape`, `dtype` and ``x[rows]``: NumPy's, `numpy.memmap`, `h5py.Dataset`,
        `zarr.Array`. Or an object with ``len(data)``, the number of examples N, and ``data[rows]``, a
        tuple of (x, t) or (x, t, weight). rows is a vector of int64, increasing and without repeats; the
        values are anything that `numpy.asarray` takes without a transfer, with one row for each of rows.
        x has shape (N, D), t is as the loss takes it, weight has shape (N,) and any real dtype; x is
        of a dtype that the parameters' can hold exactly.
    block : int >= 1, optional
        Rows that lie together in the file, such as the chunk of an HDF5 data set or a multiple of it.
        Batches are then drawn from few blocks at a time: another order, which needs a file whose
        neighbours are mixed.
    dtype : str, optional
        Floating dtype that x, weight and floating t are rounded to while they are read, where it cannot
        hold them exactly.
    draw : callable, optional
        ``draw(rng, n)`` returns an array of n rows: the random numbers of one whole batch. rng is a
        function of (seed, epoch, batch).
    augment : callable, optional
        ``augment(x, t, drawn)`` returns (x, t); it is given NumPy arrays of some rows and what was drawn
        for them. Only `fit` calls it, for training examples.
    ahead : int >= 0
        How many portions a thread reads ahead; 0 reads in the calling thread, when a portion is wanted.
        A portion is as many batches as fit into 16 MiB, at least one; up to ``ahead + 2`` of them are in
        memory.
    pinned : bool
        Whether portions are copied to a GPU while it computes, from pinned memory and in a stream of
        their own: on CuPy, and on CUDA devices of PyTorch. ``ahead + 1`` of them then have memory on the
        host and on the device besides. The results are the same, bit for bit. Elsewhere it has no
        effect. It has been tested on stand-ins, and not yet run on a GPU.

    Raises
    ------
    TypeError
        `data` is something else, x or t is on a device or holds no numbers, or `augment` is not
        callable.
    ValueError
        There are no examples, x and t have different numbers of rows, or only one of `draw` and
        `augment` is given.

    Examples
    --------
    A file of any size, mapped into memory:

    >>> import os, tempfile
    >>> import numpy as np, anyprop as ap
    >>> folder = tempfile.mkdtemp()
    >>> np.save(os.path.join(folder, "x.npy"), np.arange(12, dtype="uint8").reshape(6, 2))
    >>> x = np.load(os.path.join(folder, "x.npy"), mmap_mode="r")
    >>> source = ap.Source((x, np.arange(6) % 2))
    >>> source
    Source(x=uint8 (6, 2), t=int64 (6,))

    Rows in any order, as batches have them:

    >>> source.read([4, 0, 4])
    (array([[8, 9],
           [0, 1],
           [8, 9]], dtype=uint8), array([0, 0, 0]))
    """

    data: Any
    _: KW_ONLY
    block: int | None = None
    dtype: str | None = None
    draw: Callable[..., Any] | None = None
    augment: Callable[..., Any] | None = None
    ahead: int = 1
    pinned: bool = False
    _arrays: Mapping[str, Any] | None = field(init=False, default=None)
    _n: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        fields(
            self, block=optional(count), dtype=optional(floating), ahead=at_least_zero, pinned=flag
        )
        if (self.draw is None) != (self.augment is None):
            alone, other = ("draw", "augment") if self.augment is None else ("augment", "draw")
            raise ValueError(
                f"Source: {alone} needs {other}: augment changes a batch by what draw drew for it; give "
                "both or neither."
            )
        for name, arguments in (("draw", ("rng", "n")), ("augment", ("x", "t", "drawn"))):
            function = getattr(self, name)
            if function is not None and not takes(function, len(arguments)):
                raise TypeError(
                    f"Source: {name} must be a function ({', '.join(arguments)}), not {kind(function)}."
                )
        arrays = _named(self.data) if isinstance(self.data, (tuple, list)) else None
        object.__setattr__(self, "_arrays", arrays)
        object.__setattr__(self, "_n", _length(self.data) if arrays is None else _rows(arrays))

    def __len__(self) -> int:
        return self._n

    def __repr__(self) -> str:
        if self._arrays is None:
            return f"Source({type(self.data).__name__}, {self._n} examples)"
        shown = (f"{name}={a.dtype} {tuple(a.shape)}" for name, a in self._arrays.items())
        return f"Source({', '.join(shown)})"

    def read(self, rows: Any) -> tuple[Array, ...]:
        """Read some examples.

        Parameters
        ----------
        rows : sequence of int, shape (k,)
            Row numbers in 0..N-1, in any order; one may come more than once.

        Returns
        -------
        x, t or x, t, weight : numpy.ndarray, shape (k, ...)
            In the order of `rows`, in memory of their own: of the data's dtypes in the machine's byte
            order, rounded to `dtype` where it cannot hold them.

        Raises
        ------
        TypeError, ValueError
            `rows` are not row numbers, or the data gave something else than examples like the first.
            Whatever else reading raises is not caught.
        """
        parts, _, places = self.read_once(rows)
        return tuple(np.take(part, places, axis=0) for part in parts)

    def read_once(self, rows: Any) -> tuple[tuple[Array, ...], Any, Any]:
        """Read some examples, each once where it comes more than once.

        Parameters
        ----------
        rows : sequence of int, shape (k,)
            As for `read`, which says what is raised.

        Returns
        -------
        arrays : tuple of numpy.ndarray, shape (d, ...)
            x, t and weight, in memory of their own, of different examples in the order of the data.
        distinct : numpy.ndarray, shape (d,), int64
            Their row numbers.
        places : numpy.ndarray, shape (k,), int64
            Where among them each of `rows` is.
        """
        rows = np.asarray(rows)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise TypeError(
                f"rows must be a vector of whole numbers, not of shape {rows.shape} and {rows.dtype}."
            )
        first = self.first  # what all others are compared with, so it is read before them
        if not rows.size:
            none = np.zeros(0, "int64")
            return tuple(part[:0] for part in first), none, none
        distinct, places = np.unique(rows.astype("int64", copy=False), return_inverse=True)
        if distinct[0] < 0 or distinct[-1] >= self._n:
            raise ValueError(
                f"rows must be in 0..{self._n - 1}, not {distinct[0]}..{distinct[-1]}."
            )
        parts = self._parts(distinct)
        check_like(parts, first, f"rows {_shown(distinct)}", "row 0")
        if self._arrays is None:  # what an object gives may be a buffer that it fills again
            parts = tuple(np.array(part) for part in parts)
        return parts, distinct, places

    @cached_property
    def first(self) -> tuple[Array, ...]:
        """The first example, as `read` returns it; all others have its shapes and dtypes."""
        return self._parts(np.zeros(1, dtype="int64"))

    def _parts(self, rows: Any) -> tuple[Array, ...]:
        """Read examples in increasing order, check them and round them."""
        if self._arrays is not None:
            parts = [rows_of(name, array, rows) for name, array in self._arrays.items()]
        else:
            parts = parts_of("data[rows]", self.data[rows])
        for name, part in zip(NAMES, parts, strict=False):
            if part.shape[:1] != rows.shape:
                raise ValueError(
                    f"data[rows] was asked for {rows.size} rows, {_shown(rows)}, and gave {name} of "
                    f"shape {part.shape}."
                )
        return tuple(
            rounded(name, part, self.dtype, rows) for name, part in zip(NAMES, parts, strict=False)
        )


def _named(data: Sequence[Any]) -> dict[str, Any]:
    """Return the arrays of (x, t) or (x, t, weight) by name, those in memory as NumPy's."""
    if len(data) not in (2, 3):
        raise TypeError(f"Source: data must be (x, t) or (x, t, weight), not {several(data)}.")
    arrays = {}
    for name, array in zip(NAMES, data, strict=False):
        if has(array, "iloc"):
            raise TypeError(
                f"Source: {name} is {kind(array)}, which finds rows by their labels; give "
                f"{name}.to_numpy()."
            )
        if not has(array, "shape", "dtype", "__getitem__"):
            raise TypeError(
                f"Source: {name} must be an array with shape, dtype and {name}[rows], not {kind(array)}."
            )
        if hasattr(array, "__dlpack_device__"):
            array = on_host(name, array)
        check_numbers(name, array.dtype)
        if not array.shape:
            raise ValueError(f"Source: {name} is one number; it needs a row for each example.")
        arrays[name] = array
    return arrays


def _rows(arrays: Mapping[str, Any]) -> int:
    n: int = arrays["x"].shape[0]
    for name, array in arrays.items():
        if array.shape[0] != n:
            raise ValueError(
                f"Source: x has {n} rows and {name} {array.shape[0]}; each example has one in both."
            )
    if n == 0:
        raise ValueError(f"Source has no examples: x has shape {tuple(arrays['x'].shape)}.")
    return n


def _length(data: Any) -> int:
    if (
        isinstance(data, (Mapping, str, bytes))
        or has(data, "shape")
        or not has(data, "__len__", "__getitem__")
    ):
        raise TypeError(
            "Source: data must be (x, t), (x, t, weight), or an object with len(data) and data[rows], "
            f"not {kind(data)}."
        )
    try:
        n = len(data)
    except (TypeError, ValueError, OverflowError) as error:  # of a number that is no length
        raise worded(
            error, f"Source: len(data) must be the number of examples: {error}."
        ) from error
    if n == 0:
        raise ValueError("Source has no examples: len(data) is 0.")
    return n


def _shown(rows: Any) -> str:
    return str(rows[0]) if rows.size == 1 else f"{rows[0]}..{rows[-1]}"
