"""The dashboard in deploy/ asks for metrics that there are, and for every one there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ruvllm_edge.metrics import Metrics

DASHBOARD = Path(__file__).parents[2] / "edge_server" / "deploy" / "grafana.json"
NAME = re.compile(r"\bruvllm_\w+")


def asked(value: Any) -> set[str]:
    """Metrics that any text of it names, outside of quotes."""
    if isinstance(value, dict):
        return set().union(*(asked(one) for name, one in value.items() if name not in ("title", "uid")))
    if isinstance(value, list):
        return set().union(*map(asked, value))
    return set(NAME.findall(re.sub(r'"[^"]*"', "", value))) if isinstance(value, str) else set()


def test_every_metric_of_the_dashboard_exists_and_every_metric_is_on_it():
    families = list(Metrics().registry.collect())
    ends = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    there = {family.name: {family.name + end for end in ends[family.type]} for family in families}
    named = asked(json.loads(DASHBOARD.read_text("utf-8")))
    assert named - set().union(*there.values()) == set()
    assert {name for name, samples in there.items() if not samples & named} == set()


def test_the_dashboard_is_one_that_grafana_can_read():
    board = json.loads(DASHBOARD.read_text("utf-8"))
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    for i, one in enumerate(places):
        assert 0 <= one["x"] <= one["x"] + one["w"] <= 24
        for other in places[i + 1 :]:
            apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
