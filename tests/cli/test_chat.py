"""`ruvllm chat` and `ruvllm query`: who answers, from what, and what feedback teaches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ruvllm.cli.main import main
from ruvllm.inference.backend import Params
from ruvllm.inference.echo import Echo

FACT = "The staging database is reset every Monday at six."
QUESTION = "when is the staging database reset?"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may read or write the state of whoever runs it."""
    monkeypatch.setenv("RUVLLM_STATE", str(tmp_path / "state.db"))


def run(*args: object, stdin: str = "", code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == code, result.output
    return result


def chat(*lines: str, args: tuple[object, ...] = ()) -> Result:
    return run("chat", "--encoder", "static", *args, stdin="\n".join(lines) + "\n")


def echoing(tmp_path: Path) -> Path:
    path = tmp_path / "ruvllm.toml"
    path.write_text('[inference.tiers.small]\nkind = "echo"\n', "utf-8")
    return path


def test_it_says_what_answers_and_answers_from_memory():
    shown = chat(f"/remember {FACT}", QUESTION, "/sources").stdout
    assert "extractive (no LLM" in shown
    assert "reset every Monday at six. [1]" in shown
    assert "1 source(s)" in shown
    assert f"{FACT}\n" in shown.split("ms of extractive")[-1]


def test_it_shows_the_routing_before_the_answer(tmp_path: Path):
    shown = chat("write unit tests for the parser", args=("--config", echoing(tmp_path))).stdout.splitlines()
    routed = next(i for i, line in enumerate(shown) if line.startswith("tester "))
    assert "tier 2 | small (echo)" in shown[routed]
    assert shown[routed + 1] == "[echo] write unit tests for the parser"


def routed(text: str) -> dict[str, Any]:
    return json.loads(run("route", "--json", "--encoder", "static", text).stdout)


def test_good_and_bad_are_of_the_answer():
    before = routed(QUESTION)
    assert "learnt: 1 source(s), patterns\n" in chat(f"/remember {FACT}", QUESTION, "/good").stdout
    assert "learnt: 1 source(s), patterns\n" in chat(QUESTION, "/bad").stdout
    after = routed(QUESTION)
    assert (after["agent"], after["confidence"]) == (before["agent"], before["confidence"])


def test_a_better_answer_is_remembered():
    assert "learnt: remembered" in chat("when is lunch?", "/better Lunch is at noon.").stdout
    assert "Lunch is at noon." in run("query", "--encoder", "static", "when is lunch?").stdout


def test_the_agent_is_confirmed_by_its_name_and_that_is_kept():
    text = "please frobnicate the widget"
    agent = routed(text)["agent"]
    assert f"learnt: {agent} confirmed" in chat(text, f"/agent {agent}").stdout
    again = routed(text)
    assert (again["agent"], again["confidence"] > 0.7) == (agent, True)


def test_agent_corrects():
    shown = chat("please frobnicate the widget", "/agent tester", "/agent nobody").output
    assert "learnt: tester corrected" in shown
    assert "no agent is called 'nobody'" in shown
    again = json.loads(run("route", "--json", "--encoder", "static", "please frobnicate the widget").stdout)
    assert again["agent"] == "tester"


def test_commands_without_an_answer_or_a_name():
    shown = chat("/good", "/sources", "/agent", "/what", "/", "", "/quit", "never asked").stdout
    assert "there is no answer yet" in shown
    assert "none" in shown
    assert shown.count("/remember TEXT") == 3
    assert "never asked" not in shown


def test_new_forgets_the_conversation(tmp_path: Path):
    assert "a new conversation" in chat("one", "/new", "two", args=("--config", echoing(tmp_path))).stdout


def test_an_answer_cannot_drive_the_terminal(tmp_path: Path):
    shown = chat("say \x1b[2J now", args=("--config", echoing(tmp_path))).stdout
    assert "\x1b" not in shown
    assert "[echo] say \N{REPLACEMENT CHARACTER}[2J now" in shown


def test_a_server_that_is_not_there_is_an_error_and_the_chat_goes_on():
    pytest.importorskip("httpx")
    result = chat("hello", f"/remember {FACT}", args=("--url", "http://127.0.0.1:9/v1", "--model", "m"))
    assert "error: " in result.stderr
    assert "remembered (id 1)" in result.stdout


def test_query_answers_once():
    run("memory", "add", "--encoder", "static", FACT)
    result = run("query", "--encoder", "static", QUESTION)
    assert "every Monday at six" in result.stdout
    told = json.loads(run("query", "--encoder", "static", "--json", QUESTION).stdout)
    assert told["sources"][0]["text"] == FACT
    assert told["confidence"] > 0.5
    decision = told["decision"]
    assert f"{decision['agent']} {decision['confidence']:.2f} ({decision['action']}) | " in result.stderr
    assert f"answer {told['confidence']:.2f}" in result.stderr
    latency = told["latency"]
    assert sum(value for stage, value in latency.items() if stage != "total") == pytest.approx(latency["total"])


@pytest.mark.parametrize("command", ["query", "chat"])
def test_temperature_top_k_min_p_seed_and_repeat_penalty_reach_the_backend(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = list[Params]()

    def stream(self: Echo, messages: Any, params: Params) -> Any:
        asked.append(params)
        return streamed(self, messages, params)

    streamed = Echo.stream
    monkeypatch.setattr(Echo, "stream", stream)
    options = "--temperature 0.2 --top-p 0.8 --top-k 7 --min-p 0.05 --seed 3 --repeat-penalty 1.2 --max-tokens 9"
    told = ("--config", echoing(tmp_path), "--encoder", "static", *options.split())
    run(command, *told, *(["hello"] if command == "query" else []), stdin="hello\n")
    found = [(p.temperature, p.top_p, p.top_k, p.min_p, p.seed, p.repeat_penalty, p.max_tokens) for p in asked]
    assert found == [(0.2, 0.8, 7, 0.05, 3, 1.2, 9)]
    assert "min_p" in run(command, "--min-p", "3", *(["hello"] if command == "query" else []), code=2).stderr


def test_deep_says_which_options_it_has_not():
    assert "top_k" in run("query", "--encoder", "static", "--deep", "--top-k", "3", QUESTION, code=2).stderr


def test_feedback_request_id_rating_reaches_the_answer_of_an_earlier_process():
    run("memory", "add", "--encoder", "static", FACT)
    shown = run("query", "--encoder", "static", QUESTION).stderr
    request = shown.split("ruvllm feedback --request ")[1].split()[0]
    told = ("feedback", "--encoder", "static", "--request", request)
    assert run(*told, "--rating", 1).stdout == "learnt: 1 source(s), patterns\n"
    assert run(*told, "--rating", 5).stdout == "learnt: 1 source(s)\n"
    assert run(*told, "--agent", "tester").stdout.startswith("learnt: tester ")
    assert run(*told, "--correction", "It is reset on Tuesdays.").stdout == "learnt: remembered\n"
    assert "Tuesdays" in run("query", "--encoder", "static", QUESTION).stdout
    assert "rating" in run(*told, "--rating", 6, code=2).stderr
    assert "remembered" in run("feedback", "--request", "req-none", "--rating", 3, code=2).stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "--request ID"),
        (("only a text",), "TEXT and AGENT"),
        (("--rating", "3"), "needs --request"),
        (("text", "tester", "--success"), "needs --request"),
        (("text", "tester", "--request", "req-1"), "cannot be told with --request"),
        (("--wrong", "--request", "req-1"), "cannot be told with --request"),
        (("--request", "req-1"), "req-1"),
    ],
)
def test_feedback_is_of_a_text_or_of_a_request(args: tuple[str, ...], said: str):
    assert said in run("feedback", "--encoder", "static", *args, code=2).stderr


def test_a_dead_server_is_told_where_memory_answers():
    pytest.importorskip("httpx")
    run("memory", "add", "--encoder", "static", FACT)
    dead = ("--encoder", "static", "--url", "http://127.0.0.1:9/v1", "--model", "m")
    result = run("query", *dead, QUESTION)
    assert "every Monday at six" in result.stdout
    assert "gave no answer (unavailable); memory answers instead" in result.stderr
    told = json.loads(run("query", "--json", *dead, QUESTION).stdout)
    assert (told["routing"]["backend"], len(told["warnings"])) == ("extractive", 1)
    result = run("chat", *dead, stdin=f"{QUESTION}\n")
    assert "every Monday at six" in result.stdout
    assert "memory answers instead" in result.stderr


def test_query_names_a_mistake(tmp_path: Path):
    path = tmp_path / "bad.toml"
    path.write_text("[memory]\nrecal = 1\n", "utf-8")
    assert "memory.recal" in run("query", "--config", path, "hello", code=2).stderr
    assert "max_tokens" in run("query", "--max-tokens", "0", "hello", code=2).stderr


def test_a_query_says_who_decided_how_strong_a_model_is_asked(tmp_path: Path):
    task = "change var to const: var greeting = 'hello';"
    result = run("query", "--encoder", "static", "--explain", task)
    assert result.stdout == "const greeting = 'hello';\n"
    assert "tier 1 by edit: 1 var made const; about $0, 1 ms\n" in result.stderr
    told = json.loads(run("query", "--encoder", "static", "--json", task).stdout)
    assert (told["choice"]["by"], told["tier"], told["cost"], told["advice"]) == ("edit", 1, 0, "")
    unsure = run("query", "--config", echoing(tmp_path), "--encoder", "static", "Hi").stderr
    assert "no agent is sure enough to speak (" in unsure
    assert "max_cost" in run("query", "--max-cost", "-1", "Hi", code=2).stderr
    assert (
        "tier 3 by difficulty" in run("route", "--explain", "--encoder", "static", "design a distributed lock").stdout
    )


def test_a_chat_says_it_too(tmp_path: Path):
    shown = chat("Hi", args=("--config", echoing(tmp_path))).stdout
    assert "tier 2 (small) by default: " in shown
    assert "(/agent NAME)" in shown
