"""A step on NumPy, repeated by compiled code that takes the batches itself.

Every call of its plan becomes one of compiled code by address (`operation.py`), and one function that
numba compiles, the same for all networks, goes through their list for each batch. The results are
those of the step, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from anyprop.compiled.kernels import CELL, NUMBER, REDUCTIONS, Kernel
from anyprop.compiled.memory import Local
from anyprop.compiled.numba_dialect import NUMBA, SCALAR_FORMS, get_kernel
from anyprop.compiled.numpy_plan import Plan
from anyprop.compiled.operation import (
    MOVE,
    NoOperationError,
    Operation,
    SharedOperation,
    address_of,
    copy,
    kernel_operation,
    operations,
)
from anyprop.compiled.program import Places, Program, fill, leaves_of
from anyprop.compiled.trace import OUT, Call, Value
from anyprop.optimizers.state import OptimizerState
from anyprop.parameters import Parameters

# What goes through the list. All it is told are addresses and sizes:
#   operations   of each: the address of its code, and four arguments
#   puts         of each number of a step: where its values for all steps are, and where it is put
#   gathers      of each array of data: where it is, bytes from row to row, where its batch is put,
#                bytes in a row
#   rows         of each step: the rows of its batch
_LOOP = """
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic
from numpy import intp

@intrinsic
def call(typing, function, a, b, c, d):
 def code(context, builder, signature, words):
  kind = ir.FunctionType(ir.VoidType(), [word.type for word in words[1:]])
  builder.call(builder.inttoptr(words[0], kind.as_pointer()), words[1:])
  return context.get_dummy_value()
 return types.void(*[types.intp] * 5), code

def kernel(pointers, sizes, numbers, data):
 steps, n_operations, n_puts, n_gathers, n_rows = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
 move, values, value, nbytes = sizes[5], sizes[6], sizes[7], sizes[8]
 operations = carray(pointers[0], (n_operations, 5), intp)
 puts = carray(pointers[1], (n_puts, 2), intp)
 gathers = carray(pointers[2], (n_gathers, 4), intp)
 rows = carray(pointers[3], (steps, n_rows), intp)
 for k in range(steps):
  for i in range(n_puts):
   call(move, puts[i, 1], puts[i, 0] + 8 * k, 8, 0)
  for i in range(n_gathers):
   source, step, place, n = gathers[i, 0], gathers[i, 1], gathers[i, 2], gathers[i, 3]
   for j in range(n_rows):
    call(move, place + n * j, source + step * rows[k, j], n, 0)
  for i in range(n_operations):
   call(operations[i, 0], operations[i, 1], operations[i, 2], operations[i, 3], operations[i, 4])
  call(move, values + nbytes * k, value, nbytes, 0)
"""


class ManySteps:
    """A step, repeated by compiled code that takes the batches itself.

    Parameters
    ----------
    places : Places
        The arrays that it updates.
    program : Program
        What to repeat, given the numbers of a step.
    batch : sequence of numpy.ndarray
        Where it reads its batch.
    most : int >= 1
        Largest number of steps in a call.

    Attributes
    ----------
    nbytes : int
        Memory of its buffers.
    """

    def __init__(self, places: Places, program: Program, batch: Sequence[Any], most: int) -> None:
        plan = _Operations(program)
        # All that is left for Python is to compute numbers from numbers, for all steps in advance.
        self._of_numbers = plan.calls
        self._numbers = np.empty((len(program.arguments) + len(plan.calls), most))
        self._rows = np.empty((most, len(batch[0])), np.intp)
        value = plan.outputs[0]
        self._values = np.empty(most, value.dtype)

        cells = [cell for operation in plan.operations for cell in operation.cells]
        puts = [(address_of(self._numbers[cell.local.number]), cell.address) for cell in cells]
        self._gathers = np.array(
            [(0, 0, address_of(b), b.nbytes // len(b)) for b in batch], np.intp
        )
        words = np.array([operation.words for operation in plan.operations], np.intp)
        self._places = places
        pointers = [o.pointers for o in plan.operations if o.pointers is not None]
        self._pointers = [*_pointing([words.ravel(), *pointers], _donated(self._places))]
        tables = [words, np.array(puts, np.intp), self._gathers, self._rows]
        sizes = [0, len(words), len(puts), len(batch), len(batch[0])]
        sizes += [MOVE, address_of(self._values), address_of(value), value.nbytes]
        self._sizes = np.array(sizes, np.intp)
        kept = [plan, value]
        self.nbytes = plan.nbytes + sum(b.nbytes for b in batch) + self._rows.nbytes
        self._run = kernel_operation(get_kernel(_LOOP), tables, self._sizes, [], kept).bound

    def run(
        self,
        params: Parameters,
        state: OptimizerState,
        arrays: Sequence[Any],
        batches: Sequence[Any],
        numbers: Sequence[list[float]],
    ) -> tuple[Parameters, OptimizerState, list[float]]:
        """Run a step with each batch of rows, on parameters and a state that are donated."""
        self._work_on(params, state)
        steps = self._sizes[0] = len(batches)
        for known in numbers if self._of_numbers else ():
            for function, given, *_ in self._of_numbers:
                of = (known[x.number] if isinstance(x, Local) else x for x in given)
                known.append(function(*of))
        self._numbers.T[:steps] = numbers
        np.concatenate(batches, out=self._rows[:steps].reshape(-1))
        self._gathers[:, 0] = [*map(address_of, arrays)]
        self._gathers[:, 1] = [array.strides[0] for array in arrays]
        self._run.function(*self._run.arguments)
        values: list[float] = self._values[:steps].tolist()
        params, slots, _ = self._places
        return params, state._replace(step=state.step + steps, slots=slots), values

    def _work_on(self, params: Parameters, state: OptimizerState) -> None:
        """Update these from now on."""
        ours, slots, mask = self._places
        if mask is not None:
            fill(mask, state.decay_mask)
        # By identity: a loop hands back what it was given.
        if params is ours and state.slots is slots:
            return
        places = Places.of(params, state)._replace(mask=mask)
        pairs = zip(_donated(places), _donated(self._places), strict=True)
        moved = [address_of(new) - address_of(old) for new, old in pairs]
        for words, k, i in self._pointers:
            words[k] += moved[i]
        self._places = places


def _donated(places: Places) -> list[Any]:
    """List the vectors that a step updates."""
    return leaves_of(places[:2])


def _pointing(tables: Sequence[Any], vectors: Sequence[Any]) -> Iterator[tuple[Any, int, int]]:
    """Yield each address within a vector: its table, its place in there, and which vector it is."""
    spans = [(address_of(v), address_of(v) + v.nbytes) for v in vectors]
    for table in tables:
        words = table.view(np.intp)
        for k, word in enumerate(words.tolist()):
            for i, (begin, end) in enumerate(spans):
                if begin <= word < end:
                    yield words, k, i


class _Operations(Plan):
    """Calls of NumPy as calls by address."""

    shares = False

    def __init__(self, program: Program) -> None:
        self.operations: list[Operation] = []
        super().__init__(program, small_too=True)

    def operate(self, operation: Operation | SharedOperation) -> None:
        """Append what is called by address."""
        assert isinstance(operation, Operation)
        self.operations.append(operation)

    def copy(self, value: Value, place: Any) -> None:
        """Append a copy."""
        self.operate(copy(self.place(value), place))

    def bind_call(self, call: Call, out: Any) -> None:
        """Append what a call does; what NumPy's own loops cannot do becomes a loop, too."""
        if isinstance(out, Local):
            super().bind_call(call, out)
            return
        kernel = _kernel_of(call)
        given = [x for x in self.arguments(call) if x is not OUT]
        # Of rows and columns many would follow each other.
        if kernel and (call.function in REDUCTIONS or any(isinstance(x, Local) for x in given)):
            self.bind_kernel(kernel, [out])
            return
        try:
            self.operations += [*operations(call.function, given, out)]
        except NoOperationError:
            if kernel is None:
                raise
            self.bind_kernel(kernel, [out])


def _kernel_of(call: Call) -> Kernel | None:
    """Return the loop of one call; None if there is none."""
    kinds, out = NUMBA.kinds([call]), call.output
    if kinds is None and call.function in SCALAR_FORMS and out.dtype.kind in "fb":
        # Or number by number through arrays of any dtypes and dimensions.
        values = [value for value in (*call.inputs, out) if not value.is_number]
        if all(v.shape == out.shape and v.stand_in().flags.c_contiguous for v in values):
            kinds = dict.fromkeys(values, CELL) | {v: NUMBER for v in call.inputs if v.is_number}
    return None if kinds is None else Kernel([call], [out], kinds)
