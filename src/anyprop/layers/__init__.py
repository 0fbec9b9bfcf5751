"""Layers, one to a file: equation, forward and backward on one screen."""
