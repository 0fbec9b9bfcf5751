from __future__ import annotations

import os
import shutil

import pytest

from browser import Browser


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    path = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    assert path, "chromium is not on PATH; install it, or set CHROMIUM to the path of a browser."
    browser = Browser(path, tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium):
    """The page, newly opened; nothing may have gone wrong in it."""
    chromium.open()
    yield chromium
    assert chromium.evaluate("return errors") == []


@pytest.fixture(scope="module")
def model(chromium):
    """The page, of which only the functions are used."""
    chromium.open()
    return chromium
