"""Optimizers, one to a file: each is one elementwise formula."""
