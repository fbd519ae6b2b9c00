"""ruvllm's own API over a real connection."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Running, Writer, serving

from ruvllm import RuvLLM

TASK = "add unit tests for the auth module"

CITIES = (("Lisbon", "2020-05-01"), ("Oslo", "2024-05-01"))


def test_a_route_is_what_the_core_says(edge: Running):
    answer = edge.post("/v1/route", {"text": TASK, "top": 2})
    expected = RuvLLM(encoder="static").route(TASK, 2).to_dict()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    got = answer.json()
    del got["timings_us"], expected["timings_us"], got["cached"], expected["cached"]
    expected["evidence"]["examples"] = [list(pair) for pair in expected["evidence"]["examples"]]
    expected["evidence"]["keywords"] = list(expected["evidence"]["keywords"])
    expected["alternatives"] = list(expected["alternatives"])
    expected["choice"]["others"] = list(expected["choice"]["others"])
    expected["team"] = list(expected["team"])
    assert got == expected


def test_a_team_has_members_with_roles(edge: Running):
    team = edge.post("/v1/route/complex", {"text": "build a shop: write the API, test it, then deploy it"}).json()
    assert len(team["members"]) >= 2
    assert all(member["agent"] and member["role"] for member in team["members"])
    task = {"text": "Add authentication to the API"}
    assert edge.post("/v1/route", task).json()["team"] == []
    assert edge.post("/v1/route", task | {"team": True}).json()["team"] == ["backend-dev", "security-architect"]


def test_feedback_teaches_at_once(edge: Running):
    text = "varnish the violin in the attic"
    assert edge.post("/v1/feedback", {"text": text, "agent": "planner"}).json()["learnt"] is True
    assert edge.post("/v1/route", {"text": text}).json()["agent"] == "planner"


def test_memories_are_found_again_by_meaning_and_filter(edge: Running):
    rows = [
        {"text": "The release train leaves every Tuesday.", "metadata": {"team": "web"}},
        {"text": "Cats sleep sixteen hours a day.", "metadata": {"team": "zoo"}, "kind": "Fact"},
    ]
    ids = edge.post("/v1/memory", {"memories": rows}).json()["ids"]
    assert len(ids) == 2
    found = edge.post("/v1/memory/search", {"query": "when is the release?", "k": 1, "window": 1}).json()["memories"]
    assert [row["id"] for row in found] == ids[:1]
    assert [row["id"] for row in found[0]["passage"]] == ids[:1]
    said = [{"text": text, "metadata": {"session": "s1"}} for text in ("We release from the main branch.", "Good.")]
    told = edge.post("/v1/memory", {"memories": said}).json()["ids"]
    (session,) = edge.post("/v1/memory/search", {"query": "release", "k": 2, "sessions": True}).json()["sessions"]
    assert (session["session"], set(session["memories"])) == ("s1", set(told))
    only = edge.post("/v1/memory/search", {"query": "when is the release?", "filter": {"team": "zoo"}})
    assert [row["id"] for row in only.json()["memories"]] == ids[1:]


def test_what_superseded_what_can_be_seen_and_undone_and_a_memory_forgotten(edge: Running):
    about = {"collection": "cities"}
    rows = [about | {"text": f"Ada lives in {city}.", "metadata": {"observed_at": when}} for city, when in CITIES]
    old, new = (edge.post("/v1/memory", {"memories": [row]}).json()["ids"][0] for row in rows)
    found = edge.get(f"/v1/memory/{old}/timeline").json()["memories"]
    assert [one["text"] for one in found] == ["Ada lives in Lisbon.", "Ada lives in Oslo."]
    assert (found[0]["closed"]["successor"], found[1]["closed"]) == (new, None)
    assert edge.post(f"/v1/memory/{old}/reopen").json() == {"reopened": True}
    assert edge.post(f"/v1/memory/{old}/reopen").json() == {"reopened": False}
    for id, query in ((old, ""), (new, "?erase=true")):
        assert edge.client.delete(f"/v1/memory/{id}{query}").status_code == 204
        assert edge.client.delete(f"/v1/memory/{id}").status_code == 404
    assert edge.get(f"/v1/memory/{10**30}/timeline").status_code == 404
    assert edge.get(f"/v1/memory/graph?ids={new}").status_code == 422  # it is gone


def test_when_memories_hold_whose_they_are_and_what_is_forgotten_by_policy(edge: Running):
    def add(text: str, **more: object) -> int:
        answer = edge.post("/v1/memory", {"memories": [{"text": text, "collection": "times", **more}]})
        assert answer.status_code == 200, answer.text
        return answer.json()["ids"][0]  # type: ignore[no-any-return]

    def found(query: str, **more: object) -> list[dict[str, Any]]:
        return edge.post("/v1/memory/search", {"query": query, "collection": "times"} | more).json()["memories"]  # type: ignore[no-any-return]

    graz = add("The office is in Graz.", valid_from="2024-03-01", valid_to="May 2025", speaker="Ada")
    linz = add("The office is in Linz.", observed_at="2025-05-02", metadata={"team": "web"})
    mine = add("The office plants are watered by Bo.", agent_id="gardener", expires="2999-01-01")
    assert found("where is the office?")[0]["id"] == linz
    (best, *_) = found("where is the office?", at="April 2024")
    assert (best["id"], best["metadata"]["speaker"], best["said"]) == (graz, "Ada", 1)
    assert (best["since"], best["until"]) == (1709251200.0, 1746057600.0)
    assert mine in {one["id"] for one in found("office plants", agent_id="gardener")}
    assert mine not in {one["id"] for one in found("office plants", agent_id="cook")}
    (told,) = edge.get(f"/v1/memory/{graz}/timeline").json()["memories"]
    assert (told["closed"]["reason"], told["said"], told["since"]) == ("it was given so", 1, 1709251200.0)
    body = {"memories": [{"text": "x", "valid_to": "soon"}]}
    assert (answer := edge.post("/v1/memory", body)).status_code == 422
    assert answer.json()["field"] == "valid_to"

    def forget(**policy: object) -> int:
        return edge.post("/v1/memory/forget", policy).json()["forgotten"]  # type: ignore[no-any-return]

    assert forget(filter={"team": "web"}, collection="times") == 1
    assert forget(collection="times", before="2020-01-01") == 0
    assert forget(ids=[mine], erase=True) == 1
    assert forget(collection="times") == 1
    assert edge.post("/v1/memory/forget", {}).json()["field"] == "ids"


def test_a_batch_with_one_bad_memory_is_not_kept_at_all(edge: Running):
    before = sum(edge.llm.memory.records.counts().values())
    answer = edge.post("/v1/memory", {"memories": [{"text": "fine"}, {"text": "odd", "kind": "Nonsense"}]})
    assert (answer.status_code, answer.json()["field"]) == (422, "kind")
    assert sum(edge.llm.memory.records.counts().values()) == before


def test_hyperedges_are_made_shown_and_taken_away(edge: Running):
    rows = [{"text": text} for text in ("Deploys need two approvals.", "Releases leave on Tuesdays.", "Cats sleep.")]
    ids = edge.post("/v1/memory", {"memories": rows}).json()["ids"]
    body = {"members": ids[:2], "weight": 0.5, "metadata": {"topic": "release"}}
    made = edge.post("/v1/memory/hyperedges", body).json()["id"]
    graph = edge.get(f"/v1/memory/graph?ids={ids[0]}").json()
    assert graph["hyperedges"] == [{"id": made, "members": ids[:2], "kind": "SameTopic", **body}]
    assert {node["id"]: node["hops"] for node in graph["nodes"]} == {ids[0]: 0, ids[1]: 1}
    assert graph["edges"] == [{"source": ids[0], "target": ids[1], "kind": "SameTopic", "weight": 0.5}]
    assert edge.client.delete(f"/v1/memory/hyperedges/{made}").status_code == 204
    assert edge.client.delete(f"/v1/memory/hyperedges/{made}").status_code == 404
    assert edge.get(f"/v1/memory/graph?ids={ids[0]}&hops=2").json()["hyperedges"] == []
    for path, field in (("ids=x", "ids"), ("ids=999999", "ids"), (f"ids={ids[0]}&hops=9", "hops"), ("hops=1", "ids")):
        answer = edge.get(f"/v1/memory/graph?{path}")
        assert (answer.status_code, answer.json()["field"]) == (422, field), path
    for wrong, field in (
        ({"members": ids[:1]}, "members"),
        ({"members": [*ids, 999_999]}, "ids"),
        ({"members": ids, "kind": "Likes"}, "kind"),
    ):
        answer = edge.post("/v1/memory/hyperedges", wrong)
        assert (answer.status_code, answer.json()["field"]) == (422, field), wrong
    assert edge.client.delete("/v1/memory/hyperedges/one").status_code == 404


def test_a_query_says_what_it_draws_on_where_that_is_asked_for(edge: Running):
    edge.post("/v1/memory", {"memories": [{"text": "The staging database is reset every Monday."}]})
    question = {"query": "when is the staging database reset?"}
    assert edge.post("/v1/query", question).json()["attention"] is None
    attention = edge.post("/v1/query", question | {"explain": True}).json()["attention"]
    assert sum(part for _, part in attention["ranked"]) == pytest.approx(1)
    assert attention["influence"]["Self"] > 0.5
    tiers = edge.get("/v1/stats").json()["memory_tiers"]["default"]
    assert tiers["f32"]["count"] >= 1
    assert tiers["f32"]["bytes"] == tiers["f32"]["count"] * 4 * edge.llm.memory.encoder.dim


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_a_query_is_answered_and_can_be_rated(edge: Running, prefix: str):
    answer = edge.post(f"{prefix}/query", {"query": "say three words"}).json()
    assert (answer["confidence"], answer["warnings"]) == (0.9, [])
    assert answer["decision"]["confidence"] == edge.post("/v1/route", {"text": "say three words"}).json()["confidence"]
    assert answer["text"].strip() == "say three words"
    assert answer["routing"]["backend"] == "writer"
    assert answer["latency"]["total"] == pytest.approx(sum(v for k, v in answer["latency"].items() if k != "total"))
    rated = edge.post(f"{prefix}/feedback", {"request_id": answer["request_id"], "rating": 5})
    assert (rated.json()["request"]["agent"], rated.json()["request"]["trajectory"]) == ("", True)
    assert "ruvllm_quality_score_count" in edge.get("/metrics").text


def test_feedback_about_an_answer_takes_the_right_agent_and_a_better_answer(edge: Running):
    text = "lacquer the harpsichord lid"
    asked = edge.post("/query", {"query": text}).json()
    told = {"request_id": asked["request_id"], "rating": 2, "agent": "planner", "correction": "With a soft brush."}
    done = edge.post("/feedback", told).json()["request"]
    assert done["agent"] in ("confirmed", "corrected")
    assert edge.post("/v1/route", {"text": text}).json()["agent"] == "planner"
    found = edge.post("/v1/memory/search", {"query": text, "k": 1}).json()["memories"]
    assert found[0]["text"] == f"Q: {text}\nA: With a soft brush."
    for wrong, field in (({"agent": "nobody"}, "agent"), ({"correction": " "}, "correction")):
        answer = edge.post("/feedback", {"request_id": asked["request_id"]} | wrong)
        assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_with_the_only_backend_dead_memory_answers_and_ready_says_degraded():
    dead = Writer(fails_after=0)
    with serving(RuvLLM(encoder="static", backends={"small": dead})) as edge:
        edge.post("/v1/memory", {"memories": [{"text": "The release train leaves every Tuesday."}]})
        answer = edge.post("/query", {"query": "when does the release train leave?"})
        assert answer.status_code == 200
        told = answer.json()
        assert "every Tuesday" in told["text"]
        assert told["routing"]["backend"] == "extractive"
        assert told["warnings"] == ["writer gave no answer (unavailable); memory answers instead"]
        ready = edge.get("/ready")
        assert (ready.status_code, ready.json()["status"], ready.json()["unavailable"]) == (200, "degraded", ["writer"])
        chat = {"messages": [{"role": "user", "content": "when does the release train leave?"}]}
        assert edge.post("/v1/chat/completions", chat).status_code >= 500  # nobody asked memory there
        assert edge.post("/query", {"query": "who painted the ceiling of the chapel?"}).status_code >= 500


def test_a_query_can_set_how_the_model_samples(edge: Running, writer: Writer):
    set_ = {"temperature": 0.2, "top_k": 7, "min_p": 0.05, "seed": 3, "repeat_penalty": 1.2}
    assert edge.post("/query", {"query": "say three words"} | set_).status_code == 200
    assert {name: getattr(writer.params[-1], name) for name in set_} == set_
    wrong = edge.post("/query", {"query": "say three words", "min_p": 2})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "min_p")


def test_a_session_keeps_what_was_said(edge: Running):
    name = edge.post("/session", {"metadata": {"user": "ada"}}).json()["session_id"]
    edge.post("/query", {"query": "remember the number seven", "session_id": name})
    session = edge.get(f"/v1/sessions/{name}").json()
    assert session["metadata"] == {"user": "ada"}
    again = edge.post("/session", {"history": session["history"]}).json()["session_id"]
    assert edge.get(f"/v1/sessions/{again}").json()["history"] == session["history"]
    assert edge.post("/session", {"history": session["history"][1:]}).json()["field"] == "history"
    assert [turn["role"] for turn in session["history"]] == ["user", "assistant"]
    assert edge.client.delete(f"/v1/sessions/{name}").status_code == 204
    gone = edge.post("/query", {"query": "which number?", "session_id": name})
    assert (gone.status_code, gone.json()["field"]) == (404, "session")
    assert edge.get(f"/v1/sessions/{name}").status_code == 404


def test_agents_come_and_go(edge: Running):
    bread = "bake a sourdough loaf"
    agent = {"name": "baker", "description": "Bakes bread, cakes and pastry.", "examples": [bread, "knead the dough"]}
    before = edge.get("/v1/agents").json()["agents"]
    added = edge.client.put("/v1/agents", json={"agents": [agent]}).json()
    assert (added["agents"], added["problems"]) == (len(before) + 1, [])
    assert edge.post("/v1/route", {"text": bread}).json()["agent"] == "baker"
    assert edge.client.delete("/v1/agents/baker").json()["agents"] == len(before)
    assert edge.post("/v1/route", {"text": bread}).json()["agent"] != "baker"
    assert edge.client.delete("/v1/agents/baker").status_code == 404
    assert edge.client.delete("/v1/agents/coder").status_code == 409


def test_agent_files_are_read_one_by_one(edge: Running):
    good = {"path": "a/brewer.md", "text": "---\nname: brewer\ndescription: Brews tea and coffee.\n---\nBrew."}
    bad = {"path": "a/broken.md", "text": "no front matter"}
    change = edge.client.put("/v1/agents", json={"files": [good, bad]}).json()
    assert [(row["field"], bool(row["fix"])) for row in change["problems"]] == [("a/broken.md:1", True)]
    assert any(agent["name"] == "brewer" for agent in edge.get("/v1/agents").json()["agents"])
    edge.client.delete("/v1/agents/brewer")


def test_added_agents_are_there_after_a_restart(tmp_path):
    state = tmp_path / "state.db"
    agent = {"name": "baker", "description": "Bakes bread."}
    with serving(RuvLLM(encoder="static", state=state), keeps=True) as edge:
        assert edge.client.put("/v1/agents", json={"agents": [agent]}).json()["kept"] is True
    with serving(RuvLLM(encoder="static", state=state), keeps=True) as edge:
        assert "baker" in {row["name"] for row in edge.get("/v1/agents").json()["agents"]}
        edge.client.delete("/v1/agents/baker")
    with serving(RuvLLM(encoder="static", state=state), keeps=True) as edge:
        assert "baker" not in {row["name"] for row in edge.get("/v1/agents").json()["agents"]}


def test_health_readiness_stats_and_metrics(edge: Running):
    assert edge.get("/health").json()["status"] == "ok"
    assert edge.get("/v1/health").status_code == 200
    assert edge.get("/ready").json().items() >= {"ready": True, "status": "ok", "unavailable": []}.items()
    assert edge.get("/stats").json()["agents"] == len(edge.llm.agents)
    edge.post("/v1/route", {"text": TASK})
    told = edge.get("/metrics").text
    assert 'ruvllm_requests_total{method="POST",path="/v1/route",status="200"}' in told
    assert 'ruvllm_request_latency_seconds_count{path="/v1/route"}' in told
    assert f"ruvllm_agents {float(len(edge.llm.agents))}" in told


def test_patterns_can_be_asked_for(edge: Running):
    assert isinstance(edge.get("/v1/patterns?limit=3").json()["patterns"], list)
    wrong = edge.get("/v1/patterns?limit=many")
    assert (wrong.status_code, wrong.json()["field"]) == (422, "limit")


def test_what_runs_beside_routing_refuses_by_field_what_cannot_be(edge: Running):
    for path, body, field in (
        ("/v1/memory/edges", {"source": 1, "target": 1 << 70, "kind": "Cites"}, "id"),
        ("/v1/memory/edges", {"source": 1, "target": 2, "kind": "Likes"}, "kind"),
        ("/v1/query/plan", {"query": " "}, "query"),
        ("/v1/jobs", {"budget": 0}, "budget"),
        ("/v1/backends/select", {"prompt": "x"}, "backends"),
        ("/v1/backends/outcomes", {"choice_id": "none"}, "choice_id"),
        ("/v1/query", {"query": "x", "context": "y"}, "context"),
        ("/v1/query", {"query": "x", "deep": True, "settings": {"max_depth": 99}}, "settings.max_depth"),
    ):
        answer = edge.post(path, body)
        assert (answer.status_code // 100, answer.json()["field"]) == (4, field), (path, answer.text)
    llms = {"backends": [{"name": "a", "cost": 1}, {"name": "a", "cost": 2}]}
    assert edge.client.put("/v1/backends", json=llms).json()["field"] == "backends"
    assert edge.client.delete(f"/v1/feedback/{1 << 70}").json()["field"] == "id"
