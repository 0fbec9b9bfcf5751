"""The compiled step: the same step, planned once and repeated without allocations."""
