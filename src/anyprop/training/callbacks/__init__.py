"""Callbacks: what a run does besides training, one file for each."""
