"""Finds a Chromium for the end-to-end tests, or installs one; with --all a Firefox and a WebKit as well.

python build/browser.py [--all]

Order: $RUVLLM_BROWSER (or $RUVLLM_FIREFOX), one of this machine, Playwright's own; then Debian's package (as root),
then Playwright's download.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

VARIABLE = "RUVLLM_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
PLACES = (
    "/usr/bin/chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
# Containers have no user namespaces for the sandbox, and no display adapter.
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
MISSING = (
    "No Chromium for the end-to-end tests. Install one (Debian: apt-get install chromium; elsewhere: "
    f"python -m playwright install --with-deps chromium) or set {VARIABLE} to the path of a Chromium or Chrome."
)
FIREFOX = "RUVLLM_FIREFOX"
NO_FIREFOX = (
    "No Firefox for the end-to-end tests. Install one (Debian: apt-get install firefox-esr, 145 or newer; elsewhere: "
    f"python -m playwright install --with-deps firefox) or set {FIREFOX} to its path."
)
MINI_BROWSERS = "/usr/lib/*/webkit2gtk-4.*/MiniBrowser"
NO_WEBKIT = "No WebKit for the end-to-end tests. Debian: apt-get install webkit2gtk-driver xvfb."
PATIENCE = 300  # seconds: WebKit's first start alone may take more than one minute
FILES = "--features=+StorageAPI,+StorageAPIEstimate,+FileSystem,+FileSystemWritableStream,+AccessHandle"


class BrowserError(Exception):
    """There is no browser, or the one that was named does not start."""


def find() -> Path | None:
    """The path of a browser that starts, or None. Raises BrowserError if the one that was named does not."""
    if named := os.environ.get(VARIABLE):
        if starts(path := Path(named)):
            return path
        raise BrowserError(f"{VARIABLE} is {named}, which does not start: name a Chromium, or unset it")
    return next((path for path in _candidates() if starts(path)), None)


def firefox() -> Path | None:
    """The path of a Firefox that starts, or None. Raises BrowserError if the one that was named does not."""
    if named := os.environ.get(FIREFOX):
        if starts(path := Path(named)):
            return path
        raise BrowserError(f"{FIREFOX} is {named}, which does not start: name a Firefox, or unset it")
    found = (Path(path) for name in ("firefox-esr", "firefox") if (path := shutil.which(name)))
    return next((path for path in chain(found, _playwrights("firefox")) if starts(path)), None)


def webkit() -> tuple[Path, Path] | None:
    """(its driver, the browser that the driver starts), if both are installed."""
    driver, program = shutil.which("WebKitWebDriver"), next(iter(sorted(Path("/").glob(MINI_BROWSERS[1:]))), None)
    return (Path(driver), program) if driver and program else None


@contextmanager
def screen() -> Iterator[str]:
    """The name of a screen that nobody sees. Raises BrowserError: there is no Xvfb."""
    read, write = os.pipe()
    try:
        server = subprocess.Popen(["Xvfb", "-displayfd", str(write), "-nolisten", "tcp"], pass_fds=[write])
    except FileNotFoundError:
        os.close(read)
        raise BrowserError("no Xvfb: run `make setup-browsers`") from None
    finally:
        os.close(write)
    try:
        with os.fdopen(read) as told:
            yield f":{told.readline().strip()}"
    finally:
        server.terminate()
        server.wait()


@contextmanager
def webkit_window(display: str, *, files: bool = True) -> Iterator[Any]:
    """A selenium driver of a WebKit that has never been anywhere. Raises BrowserError: there is none.

    Args:
        files: whether its pages have private files, as Safari's have and Debian's as installed have not.
    """
    from selenium import webdriver

    if (found := webkit()) is None:
        raise BrowserError(NO_WEBKIT)
    driver, program = found
    options = webdriver.WebKitGTKOptions()
    options.binary_location = str(program)
    for argument in ("--automation", *([FILES] if files else ())):
        options.add_argument(argument)
    service = webdriver.WebKitGTKService(str(driver), env=os.environ | {"DISPLAY": display})
    window = webdriver.WebKitGTK(options=options, service=service)
    try:
        window.set_script_timeout(PATIENCE)
        window.set_page_load_timeout(PATIENCE)
        yield window
    finally:
        window.quit()


def starts(path: Path) -> bool:
    """Whether it tells its version: a package may be no more than a pointer to another store."""
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return told.returncode == 0 and any(digit in told.stdout for digit in "0123456789")


def ensure() -> Path:
    """A browser, installed first if need be. Raises BrowserError if none can be had."""
    if found := find():
        return found
    for install in (lambda: _from_debian("chromium", "fonts-dejavu-core"), lambda: _from_playwright("chromium")):
        if install() and (found := find()):
            return found
    raise BrowserError(MISSING)


def ensure_others() -> list[str]:
    """Firefox, WebKit and what drives them, installed where they may be; what is missing then."""
    if firefox() is None and not (_from_debian("firefox-esr") and firefox()):
        _from_playwright("firefox")
    if webkit() is None or shutil.which("Xvfb") is None:
        _from_debian("webkit2gtk-driver", "xvfb")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--group", "browsers"]
    drivers = _succeeds(pip, 300)
    no_drivers = "No drivers for Firefox and WebKit: pip install 'playwright<1.65' selenium."
    found = ((firefox(), NO_FIREFOX), (webkit() and shutil.which("Xvfb"), NO_WEBKIT), (drivers, no_drivers))
    return [missing for there, missing in found if not there]


def _candidates() -> Iterator[Path]:
    yield from (Path(found) for name in NAMES if (found := shutil.which(name)))
    yield from (Path(place) for place in PLACES)
    yield from _playwrights("chromium")


def _playwrights(name: str) -> Iterator[Path]:
    """Where Playwright keeps its own."""
    if find_spec("playwright") is None:
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield Path(getattr(playwright, name).executable_path)


def _from_debian(*packages: str) -> bool:
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        return False
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ("install", "-y", "-qq", "--no-install-recommends", *packages)
    return _succeeds([apt, "update", "-qq"], 180, quiet) and _succeeds([apt, *install], 480, quiet)


def _from_playwright(name: str) -> bool:
    return _succeeds([sys.executable, "-m", "playwright", "install", name], 300)


def _succeeds(command: list[str], seconds: int, environment: dict[str, str] | None = None) -> bool:
    """Whether it ends well in time; its own words are shown."""
    print("+", *command, file=sys.stderr, flush=True)
    try:
        return subprocess.run(command, env=environment, timeout=seconds, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return False


def main() -> None:
    """Ensure and tell it."""
    try:
        print(ensure())
        if "--all" in sys.argv[1:]:
            print(*[firefox(), *(webkit() or ()), *ensure_others()], sep="\n")
    except BrowserError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
