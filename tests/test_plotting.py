"""Figures show what they are given, and change nothing global."""

import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest

import anyprop as ap
from anyprop import EpochRecord, History


def record(epoch, loss=None, accuracy=None):
    return EpochRecord(epoch, epoch * 10, 0.5, loss, accuracy, 0.1, 1.0)


LOSSES = list(2.0 * np.exp(-np.arange(30) / 10))
VALIDATED = History(LOSSES, [record(epoch, 1.0 / epoch, 0.3 * epoch) for epoch in (1, 2, 3)])


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize("curve", [LOSSES, tuple(LOSSES), np.asarray(LOSSES), History(LOSSES)])
def test_one_run(curve):
    (axes,) = ap.plot_history(curve, smooth=1).axes
    (line,) = axes.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 31))
    np.testing.assert_allclose(line.get_ydata(), LOSSES, rtol=1e-12)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss")
    assert axes.get_legend() is None
    assert axes.get_yscale() == "linear"


def test_several_runs_are_told_apart_by_name_and_look():
    runs = {str(k): [float(k), 1.0] for k in range(1, 20)}
    (axes,) = ap.plot_history(runs, smooth=1).axes
    assert legend(axes) == list(runs)
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.get_lines()}) == 19


def test_smoothing_leaves_the_raw_losses_behind_and_bends_no_straight_line():
    (axes,) = ap.plot_history({"a": list(range(100))}, smooth=9).axes
    raw, mean = axes.get_lines()
    np.testing.assert_array_equal(raw.get_ydata(), range(100))
    assert raw.get_alpha() < 0.5
    assert mean.get_label() == "a"
    np.testing.assert_allclose(mean.get_ydata()[:96], range(96), rtol=1e-12)
    # The last windows end with the data: 99 represents 95..99.
    np.testing.assert_allclose(mean.get_ydata()[-1], 97.0, rtol=1e-12)


def test_smoothing_is_a_mean_over_so_many_steps():
    spike = np.zeros(41)
    spike[20] = 1.0
    _, mean = ap.plot_history(spike, smooth=5).axes[0].get_lines()
    np.testing.assert_allclose(mean.get_ydata()[18:23], 0.2, rtol=1e-12)
    np.testing.assert_allclose(mean.get_ydata().sum(), 1.0, rtol=1e-12)


@pytest.mark.parametrize("smooth", [1, 2, 3, 8, 25, 99])
def test_a_loss_that_is_huge_or_nan_changes_no_mean_that_it_is_not_in(rng, smooth):
    losses = rng.uniform(0.1, 1.0, 40)
    losses[[3, 20]] = 1e30, np.nan
    mean = ap.plot_history(losses, smooth=smooth).axes[0].get_lines()[-1].get_ydata()
    half = (smooth - 1) // 2
    for i, found in enumerate(mean):
        window = losses[max(i - half, 0) : i + min(i, half) + 1]
        np.testing.assert_allclose(found, window.mean(), rtol=1e-12)


def test_the_default_smoothing_grows_with_the_run():
    assert len(ap.plot_history([1.0] * 49).axes[0].get_lines()) == 1
    assert len(ap.plot_history([1.0] * 500).axes[0].get_lines()) == 2


def test_validation():
    loss, accuracy = ap.plot_history({"a": VALIDATED, "b": LOSSES}, smooth=1).axes
    points = lines(loss)["a, validation"]
    np.testing.assert_array_equal(points.get_xdata(), [10, 20, 30])
    np.testing.assert_allclose(points.get_ydata(), [1.0, 0.5, 1 / 3])
    assert points.get_color() == lines(loss)["a"].get_color()
    assert legend(loss) == ["a", "a, validation", "b"]
    np.testing.assert_allclose(lines(accuracy)["a"].get_ydata(), [0.3, 0.6, 0.9])
    assert "accuracy" in accuracy.get_ylabel()
    assert legend(accuracy) == ["a"]


def test_one_validated_run():
    loss, _ = ap.plot_history(VALIDATED).axes
    assert legend(loss) == ["training", "validation"]


def test_validation_without_accuracy_needs_no_second_plot():
    history = History(LOSSES, [record(1, 0.5), record(2, 0.4)])
    (axes,) = ap.plot_history(history, smooth=1).axes
    assert len(axes.get_lines()) == 2


def test_logarithmic():
    assert ap.plot_history(LOSSES, log=True).axes[0].get_yscale() == "log"


def test_the_axis_is_logarithmic_where_a_linear_one_would_hide_most_of_it():
    def scale(*losses, **options):
        return ap.plot_history(dict(enumerate(losses)), **options).axes[0].get_yscale()

    assert scale([2.0, 0.019]) == scale([15.0, 2.0], [2.0, 0.1]) == "log"
    assert scale([2.0, 0.021]) == "linear"
    assert scale([2.0, 0.0]) == scale([2.0, -0.001]) == scale([float("nan")] * 3) == "linear"
    assert scale([2.0, 0.001, float("inf"), float("nan")]) == "log"
    assert scale([2.0, 0.001], log=False) == "linear"


def test_a_curve_under_another_shows_in_its_gaps():
    (axes,) = ap.plot_history({"a": LOSSES, "b": LOSSES}, smooth=1).axes
    assert [line.get_linestyle() for line in axes.get_lines()] == ["-", "--"]


def test_a_figure_brings_its_picture_along():
    figure = ap.plot_history({"a": VALIDATED, "b": LOSSES})
    picture = figure._repr_png_()
    assert picture.startswith(b"\x89PNG")
    width, height = figure.get_size_inches() * figure.dpi
    assert struct.unpack(">II", picture[16:24]) == (round(width), round(height))
    again = pickle.loads(pickle.dumps(figure))
    assert again._repr_png_() == picture


@pytest.mark.parametrize("losses", [[1.0, 1e300, np.inf], [1e308] * 200, [-1e308, 1e308]])
@pytest.mark.parametrize("log", [False, True])
def test_losses_near_the_largest_float_leave_a_gap(losses, log):
    """The margins of an axis are powers of ten beyond its last number."""
    history = History(losses, [record(1, 1e300)])
    figure = ap.plot_history(history, smooth=2, log=log)
    figure.canvas.draw()
    raw = figure.axes[0].get_lines()[0].get_ydata()
    assert np.isnan(raw).tolist() == [abs(loss) > 1e299 for loss in losses]


def test_the_figure_can_be_written(tmp_path):
    for suffix in ("png", "svg", "pdf"):
        path = tmp_path / f"loss.{suffix}"
        ap.plot_history({"a": VALIDATED, "b": VALIDATED}, log=True).savefig(path)
        assert path.stat().st_size > 5000


def test_pyplot_stays_out_of_it():
    code = (
        "import sys, anyprop as ap\n"
        "ap.plot_history([1.0, 2.0]).canvas.draw()\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("histories", "error"),
    [
        ({}, ValueError),
        ([], ValueError),
        ({"a": []}, ValueError),
        (3, TypeError),
        (["a"], TypeError),
        ({1: LOSSES, "1": LOSSES}, ValueError),
        ({"a": VALIDATED.to_dict()}, TypeError),
    ],
)
def test_nothing_to_draw(histories, error):
    with pytest.raises(error, match=r"[hH]istory"):
        ap.plot_history(histories)


def test_smooth_is_positive():
    with pytest.raises(ValueError, match="smooth"):
        ap.plot_history(LOSSES, smooth=0)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"anyprop\[cli\]"):
        ap.plot_history(LOSSES)
