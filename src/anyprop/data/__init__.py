"""Images: the MNIST that comes with the package, IDX files and arrays of NumPy, and one's own digits."""

from anyprop.data.four_files import load_idx
from anyprop.data.image import load_image
from anyprop.data.mnist import load_mnist

__all__ = ["load_idx", "load_image", "load_mnist"]
