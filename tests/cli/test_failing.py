"""A training that something beside it ends leaves its model."""

import anyprop as ap
from anyprop.cli import predict, train


def test_the_model_of_a_failed_training_is_written(run, images, monkeypatch):
    def fail(self, of):
        raise OSError(28, "No space left on device", "log.csv")

    monkeypatch.setattr(train._Announce, "on_end", fail)
    code, out, err = run("train", "--data", images, "--steps", "5", "--hidden", "3")
    assert code == 1
    assert "failed after 5 steps" in out
    assert err.count("\n") == 1
    assert "what was trained is kept" in err
    assert "log.csv" in err
    assert ap.load("runs/train/model.safetensors").step == 5


def test_the_older_predictions_stay_on_a_full_disk(run, images, monkeypatch, tmp_path):
    run("train", "--data", images, "--steps", "2", "--hidden", "3")
    (tmp_path / "p.csv").write_text("older")

    def fail(path, columns):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(predict, "_write_rows", fail)
    args = ("predict", "runs/train/model.safetensors", "--data", images, "--out", "p.csv")
    assert run(*args)[0] == 2
    assert (tmp_path / "p.csv").read_text() == "older"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.csv", "runs"]
