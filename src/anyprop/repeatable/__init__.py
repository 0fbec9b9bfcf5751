"""Checks that a compiled step repeats what was written.

A step is recorded twice, and has to be the same both times (`twice.py`, `jaxprs.py` for JAX), while
nothing that it could remember changes (`hidden_state.py`). The first step of a CUDA graph has to be the
eager one, to rounding (`first_step.py`).
"""
