"""A picture of one digit, prepared as those of MNIST were.

    grey       0.299 R + 0.587 G + 0.114 B, transparency on white
    ink        bright on dark: turned round where the picture's edge is light; 0 is the mean of the
               ground and 1 that of the ink, which Otsu's threshold tells apart
    cropped    to the pixels above that threshold
    scaled     until the longer side has 20 pixels, each the mean of what it covers
    placed     in 28 x 28 pixels, with the centre of mass in the middle, which is (14, 14)

N. Otsu, "A threshold selection method from gray-level histograms", 1979: the threshold between two
classes of n_0 and n_1 pixels with the means m_0 and m_1 at which n_0 n_1 (m_1 - m_0)^2 is largest.
"""

from __future__ import annotations

import importlib
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyprop._files import existing_file
from anyprop._foreign import HEAD, foreign
from anyprop._typing import Array
from anyprop._usage import usage
from anyprop.backend import from_host
from anyprop.data._prepare import check_dtype

_SIDE, _BOX = 28, 20
_FORMATS = ("PNG", "JPEG")
_EXPECTED = "a PNG or JPEG picture of one digit"
_ENOUGH = 600  # pixels of a side, of which the digit takes a part
_LEAST_CONTRAST = 24  # of 255: less is what paper and a camera's noise have by themselves


@usage("load_image(path)")
def load_image(
    path: str | os.PathLike[str],
    *,
    xp: Any = None,
    dtype: str = "float32",
    device: Any = None,
) -> Array:
    """Load a picture of one digit as the row of pixels that a network trained on MNIST expects.

    The picture is made grey, inverted if its ground is light, cropped to the digit, scaled into
    20 x 20 pixels and placed in 28 x 28 by its centre of mass, as the digits of MNIST were. It should
    show one digit on an even ground, and nothing else.

    Parameters
    ----------
    path : str or path
        A PNG or JPEG file, of any size. What a camera says of the way it was held is obeyed.
    xp : namespace or str, optional
        Namespace of the array, such as ``"torch"``; NumPy by default.
    dtype : {"float32", "float16", "float64"}, default "float32"
        Type of the array; that of the network's parameters.
    device : str or device, optional
        Where the array should be; the namespace's default device by default.

    Returns
    -------
    array, shape (1, 784)
        Pixels in [0, 1], 0 the ground and 1 the ink. ``.reshape(28, 28)`` is what the network sees.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ImportError
        Pillow is not installed, which reads the files and comes with the extra ``cli``.
    ValueError
        The file is no whole PNG or JPEG picture, it shows nothing or has too many pixels, or the dtype
        is none of those above.

    Examples
    --------
    A network reads what it is shown:

    >>> import anyprop as ap, pathlib, tempfile
    >>> from PIL import Image
    >>> path = pathlib.Path(tempfile.mkdtemp(), "one.png")
    >>> picture = Image.new("L", (300, 200), "white")
    >>> picture.paste("black", (140, 20, 160, 180))
    >>> picture.save(path)
    >>> x = load_image(path)
    >>> x.shape
    (1, 784)
    >>> x.reshape(28, 28).sum(axis=1).round(1).tolist()  # twenty rows of ink, in the middle
    [0.0, 0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, \
2.0, 2.0, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0]
    """
    check_dtype(dtype)
    image: Any = _pillow("PIL.Image")
    file = existing_file(path, _EXPECTED)
    pixels = _placed(image, _even(_ink(file, _grey(image, file)))).astype(dtype)
    return from_host(pixels.reshape(1, -1), xp, device=device)


def _placed(image: Any, levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Crop grey levels to the digit, and make 28 x 28 pixels of it."""
    ground, threshold, ink = _otsu(levels)
    inside = levels > threshold
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    digit = levels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    digit = np.clip((digit - ground) / (ink - ground), 0.0, 1.0).astype(np.float32)

    height, width = (max(round(_BOX * n / max(digit.shape)), 1) for n in digit.shape)
    # This filter takes in all that a pixel covers, and blends where the picture has fewer pixels.
    small = image.fromarray(digit).resize((width, height), image.Resampling.BILINEAR)
    digit = np.asarray(small, dtype=np.float32)
    digit = digit / digit.max()  # a thin line covers no pixel as a whole

    placed = np.zeros((_SIDE, _SIDE), np.float32)
    top, left = (_offset(digit.sum(axis=axis)) for axis in (1, 0))
    placed[top : top + height, left : left + width] = digit
    return placed


def _offset(mass: NDArray[Any]) -> int:
    """Return where to begin so that the centre of mass comes to the middle."""
    centre = float(np.arange(len(mass)) @ mass / mass.sum())
    return min(max(round(_SIDE / 2 - centre), 0), _SIDE - len(mass))


def _pillow(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError('load_image needs Pillow; run pip install "anyprop[cli]".') from None


def _grey(image: Any, path: Path) -> list[NDArray[np.float32]]:
    """Read the picture's grey levels, 0 to 255; where it is transparent on white, and on black."""
    operations = _pillow("PIL.ImageOps")
    with path.open("rb") as file:
        head = file.read(HEAD)
        file.seek(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", image.DecompressionBombWarning)
                with image.open(file, formats=_FORMATS) as opened:
                    deep = opened.mode.startswith("I")  # 16 bits, which RGBA has not
                    # A JPEG need not be unpacked as a whole.
                    opened.draft("RGB", (_ENOUGH, _ENOUGH))
                    shown = operations.exif_transpose(opened).convert("F" if deep else "RGBA")
        except image.UnidentifiedImageError:
            kind = foreign(head)
            what = "empty" if not head else "of an unknown kind" if kind is None else kind.name
            raise ValueError(f"{path} is {what}; expected {_EXPECTED}.") from None
        except (image.DecompressionBombWarning, image.DecompressionBombError):
            raise ValueError(
                f"{path} has more than {image.MAX_IMAGE_PIXELS // 10**6} million pixels; scale it down."
            ) from None
        except (OSError, SyntaxError, ValueError) as error:  # Pillow raises each of them
            raise ValueError(f"{path} is a damaged picture ({error}); save it again.") from None
    shown.thumbnail((_ENOUGH, _ENOUGH))  # which also takes out a camera's noise
    pixels = np.asarray(shown, dtype=np.float32)
    if deep:
        return [pixels / np.float32(257.0)]
    grey = pixels[..., :3] @ np.asarray([0.299, 0.587, 0.114], np.float32)
    opaque = pixels[..., 3] / np.float32(255.0)
    return [grey * opaque + paper * (1 - opaque) for paper in np.asarray([255, 0], np.float32)]


def _ink(path: Path, papers: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the levels of the first paper on which something can be seen, with bright ink."""
    for grey in papers:
        low, high = float(grey.min()), float(grey.max())
        if high - low >= _LEAST_CONTRAST:
            edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
            return high - grey if float(np.median(edge)) > (low + high) / 2 else grey - low
    raise ValueError(f"{path} shows nothing; expected one digit on an even ground.")


def _even(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract the plane through the ground, twice: light falls on paper from a side.

    The first threshold may take a dark side for ink; what is left of the ground has the slope of all.
    """
    y, x = np.indices(levels.shape, dtype=np.float32) / np.float32(max(levels.shape))
    basis = np.stack([np.ones_like(x), x, y], axis=-1)
    for _ in range(2):
        ground = levels <= _otsu(levels)[1]
        plane = np.linalg.lstsq(basis[ground], levels[ground], rcond=None)[0]
        levels = levels - basis @ plane
    return levels


def _otsu(levels: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return the mean of the ground, the threshold, and the mean of the ink."""
    counts, edges = np.histogram(levels, 256)
    middles = (edges[1:] + edges[:-1]) / 2
    below, sums = np.cumsum(counts)[:-1], np.cumsum(counts * middles)
    above = levels.size - below
    ground, ink = sums[:-1] / below, (sums[-1] - sums[:-1]) / above
    best = int(np.argmax(below * above * (ink - ground) ** 2))
    return float(ground[best]), float(edges[best + 1]), float(ink[best])
