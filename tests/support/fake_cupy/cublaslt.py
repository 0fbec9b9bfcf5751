"""The library cuBLASLt, on arrays of the host."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from fake_cupy.device import enqueue, note, state


class CublasLt:
    """The library cuBLASLt, as far as a compiled step uses it: numbers by columns, at addresses.

    Descriptions and layouts are freed, and not used after that. Attributes have the sizes of
    cublasLt.h, and results are at addresses that are as round as was stated.
    """

    def __init__(self) -> None:
        self.living: dict[int, Any] = {}
        self.made = 0

    def _new(self, place: Any, what: Any) -> int:
        self.made += 1
        place._obj.value = self.made
        self.living[self.made] = what
        return 0

    def cublasLtCreate(self, handle: Any) -> int:
        return self._new(handle, "handle")

    def cublasLtMatmulDescCreate(self, place: Any, compute: int, scale: int) -> int:
        assert (compute, scale) in ((68, 0), (70, 1))
        return self._new(place, {"scale": scale})

    def cublasLtMatrixLayoutCreate(self, place: Any, kind: int, m: int, n: int, ld: int) -> int:
        assert m > 0
        assert n > 0
        assert ld >= m
        return self._new(place, (("float32", "float64")[kind], m, n, ld))

    def cublasLtMatmulPreferenceCreate(self, place: Any) -> int:
        return self._new(place, {})

    def _destroy(self, made: Any) -> int:
        del self.living[made.value]
        return 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("cublasLt") and name.endswith("Destroy"):
            return self._destroy
        raise AttributeError(name)

    def cublasLtMatmulDescSetAttribute(self, made: Any, name: int, value: Any, size: int) -> int:
        assert size == {3: 4, 4: 4, 7: 4, 8: 8}[name]
        self.living[made.value][name] = value._obj.value
        return 0

    def cublasLtMatmulPreferenceSetAttribute(
        self, made: Any, name: int, value: Any, size: int
    ) -> int:
        assert size == {1: 8, 5: 4, 6: 4, 7: 4, 8: 4}[name]
        self.living[made.value][name] = value._obj.value
        return 0

    def cublasLtMatmulAlgoGetHeuristic(
        self, handle: Any, made: Any, a: Any, b: Any, c: Any, d: Any, preference: Any, *rest: Any
    ) -> int:
        assert state.gpu.capturing is None
        assert self.living[handle.value] == "handle"
        wanted, found, count = rest
        described, preferred = self.living[made.value], self.living[preference.value]
        assert wanted == 1
        assert preferred[1] == 32 * 2**20
        epilogue = described[7]
        assert epilogue in (1, 6, 256)
        if epilogue != 1 and described[8] % 16:
            note("misaligned")
        refused = {6: ("refused",), 256: ("refused", "no sums")}.get(epilogue, ())
        if state.gpu.epilogue in refused:
            return 15
        self._shapes(described, a, b, d)
        count._obj.value = 1
        found._obj.workspace = 1024
        found._obj.algo[0] = hash((preferred[5], preferred[6], preferred[8])) % 2**32
        described["alignments"] = tuple(preferred[k] for k in (5, 6, 7, 8))
        return 0

    def _shapes(self, described: Any, a: Any, b: Any, d: Any) -> tuple[Any, ...]:
        of_a, of_b, of_d = (self.living[x.value] for x in (a, b, d))
        assert of_a[0] == of_b[0] == of_d[0] == ("float32", "float64")[described["scale"]]
        (m, k), (k_too, n) = (
            of[1:3][::-1] if described[trans] else of[1:3] for of, trans in ((of_a, 3), (of_b, 4))
        )
        assert (m, n) == of_d[1:3]
        assert k == k_too
        return of_a, of_b, of_d

    def cublasLtMatmul(self, handle: Any, made: Any, alpha: Any, *rest: Any) -> int:
        a, la, b, lb, beta, c, _, d, ld, algo, workspace, size, stream = rest
        assert self.living[handle.value] == "handle"
        assert algo._obj[0]
        assert workspace
        assert size == 1024
        described = self.living[made.value]
        assert alpha._obj.value == 1.0
        assert beta._obj.value == 0.0
        assert c == d
        for address, alignment in zip((a, b, c, d), described["alignments"], strict=True):
            assert address % alignment == 0
        assert state.gpu.stream is not None
        assert stream == state.gpu.stream.ptr
        of_a, of_b, of_d = self._shapes(described, la, lb, ld)
        left, right = _by_columns(a, of_a), _by_columns(b, of_b)
        out = _by_columns(d, of_d)
        left = left.T if described[3] else left
        right = right.T if described[4] else right
        assert not np.may_share_memory(out, left)
        assert not np.may_share_memory(out, right)
        epilogue = described[7]
        kind = {1: "product", 6: "rectified", 256: "summed"}[epilogue]
        note(kind)
        bias = None if epilogue == 1 else _by_columns(described[8], (of_d[0], of_d[1], 1, of_d[1]))

        def work() -> None:
            out[...] = (
                left @ right
            )  # what is in the result before does not count: 0 times NaN would
            if epilogue == 256:
                bias[:, 0] = left.sum(axis=1)
            if epilogue == 6:
                out[...] += bias
                largest = np.fmax if state.gpu.epilogue == "drops NaN" else np.maximum
                largest(out, 0.0, out=out)
            if state.gpu.spoiled == kind:
                out[...] *= 2

        enqueue(work)
        return 0


def _by_columns(address: int, layout: Any) -> Any:
    """Return the matrix at an address, column after column."""
    dtype, m, n, ld = layout
    size = ((n - 1) * ld + m) * np.dtype(dtype).itemsize
    memory = np.frombuffer((ctypes.c_char * size).from_address(address), dtype)
    item = memory.itemsize
    return np.lib.stride_tricks.as_strided(memory, (m, n), (item, ld * item))
