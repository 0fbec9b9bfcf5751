"""The benchmark: contestants that do the same work, measured in turns.

    workloads      what is done: a training step, an update, an epoch
    contestants    who does it: anyprop, PyTorch, JAX, scikit-learn, plain NumPy, and floors
    worker         a process of its own for each contestant, so that none disturbs another
    measuring      turns: every contestant once in each round, in another order each time
results        the outcome, as JSON
    tables, chart  what a reader sees

`conduct` goes through one workload from its arrays to the timings.
"""
