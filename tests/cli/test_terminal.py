"""The command in a terminal, where the progress bar is."""

from __future__ import annotations

import os
import struct
import subprocess
import sys

import pytest

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals on this system")
fcntl = pytest.importorskip("fcntl")
termios = pytest.importorskip("termios")


def test_nothing_is_printed_into_the_bar_s_line(tmp_path):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "anyprop", "train", "--steps", "2000", "--hidden", "4"]
    child = subprocess.Popen(
        [*command, "--out", str(tmp_path)], stdout=theirs, stderr=theirs, stdin=theirs
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert child.wait() == 0
    lines = shown.decode().split("\r\n")
    assert lines[0].startswith("784-4-10 network"), shown
    assert "2000/2000" in shown.decode()
