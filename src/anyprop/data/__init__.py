"""Data sets of labelled images: the MNIST that comes with the package, and IDX files."""

from anyprop.data.four_files import load_idx
from anyprop.data.mnist import load_mnist

__all__ = ["load_idx", "load_mnist"]
