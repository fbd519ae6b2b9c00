"""A pytest plugin for both hosts: writes how each test ended to the file that RUVLLM_OUTCOMES names."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import hypothesis
import pytest

_OUTCOMES: dict[str, str] = {}


def pytest_configure(config: pytest.Config) -> None:
    """No test is timed: inside Pyodide the same one takes several times as long, and is given fewer examples."""
    slow, most = [hypothesis.HealthCheck.too_slow], 25 if sys.platform == "emscripten" else 100
    hypothesis.settings.register_profile(
        "anywhere", max_examples=most, deadline=None, database=None, suppress_health_check=slow
    )
    hypothesis.settings.load_profile("anywhere")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test has ended as its first stage that did not pass, or as its call."""
    if report.outcome != "passed":
        _OUTCOMES.setdefault(report.nodeid, report.outcome)
    elif report.when == "call":
        _OUTCOMES[report.nodeid] = "passed"


def pytest_sessionfinish() -> None:
    """Write them down, with the numpy and Python that it was."""
    import numpy

    told = {"python": sys.version.split()[0], "numpy": numpy.__version__, "platform": sys.platform, "tests": _OUTCOMES}
    Path(os.environ["RUVLLM_OUTCOMES"]).write_text(json.dumps(told), "utf-8")
