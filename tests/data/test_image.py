"""A picture of a digit becomes what MNIST's digits are, however it was drawn."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

import anyprop as ap

SHOWN = 50


@pytest.fixture(scope="module")
def digits():
    """Return a trained network, its parameters, and the first digits of the test data."""
    train, (x, _) = ap.load_mnist()
    net = ap.MLP([784, 100, 10])
    loss, optimizer = ap.SoftmaxCrossEntropy(), ap.RMSProp(lr=2e-3)
    result = ap.fit(net, net.init(seed=8), train, loss=loss, optimizer=optimizer, steps=300)
    return net, result.params, x[:SHOWN]


def scaled(pixels, size=(231, 231)):
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def on_a_page(pixels):
    """Photograph a digit on grey paper: light from the left, noise, and a camera's colours."""
    page = np.zeros((400, 600))
    page[90:321, 250:481] = np.asarray(scaled(pixels))
    light = np.linspace(150, 220, 600)
    grey = light * (1 - 0.75 * page / 255) + np.random.default_rng(0).normal(0, 4, page.shape)
    colours = grey[..., None] * [1.0, 0.95, 0.85]
    return Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))


def transparent(pixels, colour=0):
    alpha = np.asarray(scaled(pixels))
    return Image.fromarray(np.stack([np.full_like(alpha, colour)] * 3 + [alpha], axis=-1))


DRAWN = {
    "as it is": ("png", Image.fromarray),
    "inverted": ("png", lambda a: Image.fromarray(255 - a)),
    "scaled": ("png", scaled),
    "scaled and inverted": ("png", lambda a: scaled(255 - a)),
    "JPEG": ("jpg", lambda a: scaled(255 - a)),
    "sixteen bits": ("png", lambda a: Image.fromarray(257 * np.asarray(scaled(a)).astype("u2"))),
    "two colours": ("png", lambda a: scaled(255 - a).convert("1")),
    "a palette": ("png", lambda a: scaled(255 - a).convert("P")),
    "black on nothing": ("png", transparent),
    "white on nothing": ("png", lambda a: transparent(a, 255)),
    "printed colours": ("jpg", lambda a: scaled(255 - a).convert("CMYK")),
    "a photograph": ("jpg", on_a_page),
}


@pytest.mark.parametrize("drawn", DRAWN)
def test_the_network_reads_what_it_reads_in_the_original(drawn, digits, tmp_path):
    net, params, x = digits
    extension, draw = DRAWN[drawn]
    rows = []
    for i, row in enumerate(x):
        path = tmp_path / f"{i}.{extension}"
        draw((row.reshape(28, 28) * 255).round().astype(np.uint8)).save(path)
        rows.append(ap.load_image(path))
    read, original = (ap.predict(net, params, a).argmax(1) for a in (np.concatenate(rows), x))
    assert np.mean(read == original) >= 0.94


def test_mnist_is_prepared_already(digits, tmp_path):
    """Its digits were scaled and placed in this way, so they stay where they are."""
    moved = []
    for row in digits[2]:
        pixels = (row.reshape(28, 28) * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        moved.append(abs(ap.load_image(tmp_path / "a.png") - row).mean())
    assert np.mean(moved) < 0.02  # by a pixel, each of them: 0.06


def draw(path, box, size=(300, 200), colour="black", paper="white", **options):
    picture = Image.new("RGB", size, paper)
    ImageDraw.Draw(picture).rectangle(box, fill=colour)
    picture.save(path, **options)
    return ap.load_image(path).reshape(28, 28)


def test_the_longer_side_has_twenty_pixels_wherever_it_was(tmp_path):
    for box in ((10, 10, 49, 169), (240, 30, 279, 189)):
        x = draw(tmp_path / "a.png", box)
        rows, columns = np.flatnonzero(x.max(1)), np.flatnonzero(x.max(0))
        assert (rows[0], len(rows)) == (4, 20)
        assert (columns[0], len(columns)) == (12, 5)
        assert x.max() == 1.0
        assert x.min() == 0.0


def test_the_centre_of_mass_comes_to_the_middle(tmp_path):
    picture = Image.new("L", (200, 200))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((20, 20, 179, 49), fill=255)  # a T, heavy above
    pen.rectangle((80, 50, 119, 179), fill=255)
    picture.save(tmp_path / "a.png")
    x = ap.load_image(tmp_path / "a.png").reshape(28, 28)
    for axis in (0, 1):
        mass = x.sum(axis=1 - axis)
        assert abs(mass @ np.arange(28) / mass.sum() - 14) <= 0.5
    assert np.flatnonzero(x.max(1))[0] > 4


def test_a_thin_line_is_ink_as_well(tmp_path):
    picture = Image.new("L", (300, 300), "white")
    ImageDraw.Draw(picture).ellipse((20, 20, 279, 279), outline="black", width=2)
    picture.save(tmp_path / "a.png")
    assert ap.load_image(tmp_path / "a.png").max() == 1.0


def test_what_is_faint_and_coloured(tmp_path):
    x = draw(tmp_path / "a.png", (100, 20, 139, 179), colour="tan", paper="beige")
    np.testing.assert_array_equal(x, draw(tmp_path / "a.png", (100, 20, 139, 179)))


def test_a_camera_that_was_turned(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6  # the picture is to be turned right by a quarter
    x = draw(tmp_path / "a.jpg", (20, 90, 279, 109), exif=turned)
    assert len(np.flatnonzero(x.max(1))) == 20
    assert len(np.flatnonzero(x.max(0))) <= 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_goes_where_it_is_wanted(dtype, backend, tmp_path):
    draw(tmp_path / "a.png", (100, 20, 139, 179))
    x = ap.load_image(
        str(tmp_path / "a.png"), xp=backend.xp, dtype=dtype, device=backend.device_name
    )
    assert ap.namespace(x) is backend.xp
    expected = ap.load_image(tmp_path / "a.png", dtype=dtype)
    assert expected.shape == (1, 784)
    assert str(expected.dtype) == dtype
    np.testing.assert_array_equal(ap.to_host(x), expected)


def test_files_that_are_no_pictures(tmp_path):
    Image.new("L", (30, 30), 7).save(tmp_path / "blank.png")
    Image.new("L", (30, 30), 7).save(tmp_path / "other.gif")
    draw(tmp_path / "whole.png", (100, 20, 139, 179))
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("a digit")
    (tmp_path / "noise.png").write_bytes(b"\xf0\0\1\2" * 9)
    for name, message in {
        "blank.png": "shows nothing; expected one digit on an even ground.",
        "other.gif": "is a GIF picture; expected a PNG or JPEG picture of one digit.",
        "cut.png": "is a damaged picture .*; save it again.",
        "empty.png": "is empty; expected a PNG",
        "text.png": "is a text file; expected a PNG",
        "noise.png": "is of an unknown kind; expected a PNG",
        "": "is not a regular file; expected a PNG",
    }.items():
        with pytest.raises(ValueError, match=message):
            ap.load_image(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.png; expected a PNG"):
        ap.load_image(tmp_path / "nowhere.png")


def test_a_picture_that_claims_to_be_enormous(tmp_path, monkeypatch):
    draw(tmp_path / "a.png", (100, 20, 139, 179))
    for most in (40_000, 10_000):  # Pillow warns, and refuses what has twice as many
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(ValueError, match="million pixels; scale it down"):
            ap.load_image(tmp_path / "a.png")


def test_wrong_arguments(tmp_path):
    with pytest.raises(TypeError, match=r"path must be a str or a pathlib\.Path, not 3"):
        ap.load_image(3)
    with pytest.raises(ValueError, match="floating-point dtype 'int8'"):
        ap.load_image(tmp_path / "a.png", dtype="int8")


def test_without_pillow(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"needs Pillow; run pip install .anyprop\[cli\]"):
        ap.load_image(tmp_path / "a.png")
