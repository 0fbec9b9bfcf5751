"""Headless Chromium, driven over a pair of pipes by its DevTools protocol.

The protocol is JSON, each message ended by a zero byte; https://chromedevtools.github.io/devtools-protocol
describes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import subprocess
import time
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
SOURCES = DOCS / "_static" / "playground"

# No request leaves the machine, and none is waited for.
FLAGS = [
    "--headless",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<script>
globalThis.errors = [];
addEventListener("error", (event) => errors.push(String(event.message)));
addEventListener("unhandledrejection", (event) => errors.push(String(event.reason)));
</script></head><body>
{block}
</body></html>
"""
TIMEOUT = 120.0


def block() -> str:
    """Return the HTML of the page's source, with addresses that are valid from anywhere."""
    source = (DOCS / "playground.md").read_text(encoding="utf-8")
    (raw,) = re.findall(r"^```\{raw\} html\n(.*?)^```", source, re.DOTALL | re.MULTILINE)
    return raw.replace('"_static/', f'"{DOCS.as_uri()}/_static/')


class Browser:
    """One Chromium with one tab, which shows the playground."""

    def __init__(self, chromium: str, folder: Path) -> None:
        self._page = folder / "playground.html"
        self._page.write_text(PAGE.format(block=block()), encoding="utf-8")
        flags = [*FLAGS, f"--user-data-dir={folder / 'profile'}"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium refuses to run as root with it
        theirs_in, self._to = (_above_9(end) for end in os.pipe())
        self._from, theirs_out = (_above_9(end) for end in os.pipe())
        self._process = subprocess.Popen(
            [chromium, *flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(3, 4),  # where Chromium reads and writes
            preexec_fn=lambda: (os.dup2(theirs_in, 3), os.dup2(theirs_out, 4)),
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._read, self._sent, self._session = b"", 0, {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        self.call("Page.enable")

    def call(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol and return its result."""
        self._sent += 1
        asked = {"id": self._sent, "method": method, "params": params, **self._session}
        message = json.dumps(asked).encode() + b"\0"
        while message:
            message = message[os.write(self._to, message) :]
        answer = self._receive(lambda message: message.get("id") == self._sent)
        assert "error" not in answer, f"{method}: {answer['error']['message']}"
        return answer["result"]

    def _receive(self, wanted: Any) -> dict[str, Any]:
        deadline = time.monotonic() + TIMEOUT
        while True:
            line, end, rest = self._read.partition(b"\0")
            if end:
                self._read = rest
                message = json.loads(line)
                if wanted(message):
                    return message
                continue
            assert select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))[0], (
                f"Chromium did not answer within {TIMEOUT:.0f} s"
            )
            more = os.read(self._from, 1 << 20)
            assert more, f"Chromium ended with {self._process.wait()}"
            self._read += more

    def open(self, hash: str = "", *, width: int = 1280, height: int = 900) -> None:
        """Reopen the playground, in a window of this size in CSS pixels."""
        self.visit(self._page.as_uri() + hash, width=width, height=height)
        assert self.evaluate("return errors") == []

    def visit(self, address: str, *, width: int = 1280, height: int = 900) -> None:
        """Reopen a page, in a window of this size in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self._go("about:blank")  # or a new # would not reload the page
        self._go(address)

    def _go(self, address: str) -> None:
        """Navigate, and wait until the page is there: only one navigation may be under way."""
        self.call("Page.navigate", url=address)
        wanted = [address.partition("#")[0], "complete"]
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            with contextlib.suppress(AssertionError):  # a page that goes takes its answer along
                if (
                    self.evaluate("return [location.href.split('#')[0], document.readyState]")
                    == wanted
                ):
                    return
            time.sleep(0.01)
        raise AssertionError(f"{address} was not there within {TIMEOUT:.0f} s")

    def evaluate(self, script: str) -> Any:
        """Return what `script`, the body of an async function, returns."""
        answer = self.call(
            "Runtime.evaluate",
            expression=f"(async () => {{ {script} }})()",
            awaitPromise=True,
            returnByValue=True,
        )
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def mouse(self, kind: str, x: float, y: float) -> None:
        """Move, press or release the left button of the mouse."""
        held = {"button": "left", "buttons": 1, "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **held)

    def key(self, key: str, *, shift: bool = False) -> None:
        """Press and release a key."""
        code = {"Tab": 9, "Enter": 13, "ArrowRight": 39, "ArrowDown": 40}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        given = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 8 * shift}
        self.call("Input.dispatchKeyEvent", type="keyDown", **given, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **given)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)


def _above_9(end: int) -> int:
    """Move a pipe's end away from the numbers that Chromium needs."""
    moved = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(end)
    return moved
