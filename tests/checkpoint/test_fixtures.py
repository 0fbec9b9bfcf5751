"""Files of every version of the format so far can still be read, and runs in them can be resumed.

`tools/make_fixtures.py` wrote them. A file here is never changed: users have such files.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import anyprop as ap

VERSIONS = sorted((Path(__file__).parent / "fixtures").iterdir())
X, T = np.linspace(-1.0, 1.0, 30).reshape(10, 3), np.arange(10) % 2
every_version = pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)


def test_the_present_version_is_among_them():
    assert [folder.name for folder in VERSIONS] == ["version-1"]


@every_version
def test_a_network(folder):
    found = ap.load(folder / "model.safetensors")
    assert found.net == ap.MLP([3, 2])
    assert found.config == {"note": "ä"}
    # The first two that the generator of seed 8 draws, times sqrt(2 / 3).
    drawn = np.random.default_rng(8).standard_normal(2) * np.sqrt(2 / 3)
    np.testing.assert_allclose(found.params[0].W[0], drawn, rtol=1e-6)


@every_version
def test_a_run(folder, tmp_path):
    found = ap.load(folder / "run.safetensors")
    y = ap.predict(found.net, found.params, X)
    np.testing.assert_allclose(y, np.loadtxt(folder / "predictions.txt"), rtol=1e-10)
    assert found.step == found.state.step == len(found.history.losses) == 7
    assert [record.epoch for record in found.history.epochs] == [1, 2]
    assert list(found.state.slots) == ["m", "v"]
    assert found.optimizer["lr"] == {"kind": "Cosine", "lr": 0.1, "steps": 20, "end": 0.0}

    shutil.copy(folder / "run.safetensors", tmp_path / "step-00000007.safetensors")
    result = ap.fit(
        *(found.net, found.params, (X, T)),
        loss=ap.SoftmaxCrossEntropy(),
        optimizer=ap.AdamW(
            lr=ap.schedules.Cosine(0.1, steps=20), weight_decay=0.1, decay_biases=False
        ),
        steps=9,
        batch_size=4,
        validation=(X, T),
        callbacks=[ap.EarlyStopping(), ap.ReduceLROnPlateau(), ap.Checkpoints(tmp_path)],
        resume=tmp_path,
    )
    assert result.history.losses[:7] == found.history.losses
    assert len(result.history.losses) == 9
