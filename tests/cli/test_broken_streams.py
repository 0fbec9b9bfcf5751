"""No stream that is closed, full or without Unicode fails a command: its work is done and is there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import broken_streams
from broken_streams import COMMANDS, STREAMS

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full and forks"),
    pytest.mark.xdist_group("broken streams"),  # one worker, or each would run all commands
]


@pytest.fixture(scope="module")
def done(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    program = Path(broken_streams.__file__)
    args = (folder, images, folder / "model.safetensors")
    subprocess.run([sys.executable, program, *map(str, args)], check=True, capture_output=True)
    return json.loads((folder / "done.json").read_text())


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_do_their_work(done, command, stream):
    found = done[command][stream]
    assert found["missing"] == []
    full = stream == "full"
    assert found["code"] == (1 if full and command in ("inspect", "backends") else 0)
    wanted = "anyprop: cannot print: No space left on device.\n" if full else ""
    assert found["err"] == wanted
    printed = stream not in ("pipe", "no-stdout", "full")
    assert bool(found["out"]) == printed
    if stream == "ascii":
        assert found["out"].isascii()
        assert len(found["out"].splitlines()) == len(done[command]["whole"]["out"].splitlines())
