import json

import pytest
from click.testing import CliRunner

from ruvllm.cli.main import main


@pytest.fixture
def run(tmp_path):
    def call(*arguments: str):
        return CliRunner().invoke(main, ["--state", str(tmp_path / "state.db"), *arguments])

    return call


def test_feedback_is_listed_reviewed_and_taken_back(run):
    assert run("feedback", "water the office plants", "planner").exit_code == 0
    listed = json.loads(run("learn", "list", "--json").output)
    assert [(row["id"], row["agent"], row["right"]) for row in listed] == [(1, "planner", True)]
    runs = json.loads(run("learn", "run", "--encoder", "static", "--json").output)
    assert {row["name"]: row["outcome"] for row in runs}["review"] == "reviewed 1 feedbacks"
    assert json.loads(run("learn", "run", "--encoder", "static", "--json").output) == []  # nothing is due
    told = json.loads(run("learn", "status", "--json").output)
    assert told["feedback"] == 1
    # Whether RuvLTRA's memories are of its edition, the static encoder's run could not look at.
    assert not any(job["due"] for job in told["jobs"] if job["name"] not in ("write", "renewal"))
    assert run("learn", "undo", "1").exit_code == 0
    assert json.loads(run("learn", "list", "--json").output) == []


def test_undoing_what_is_not_there_names_the_fix(run):
    done = run("learn", "undo", "7")
    assert done.exit_code == 2
    assert "ruvllm learn list" in done.output


def test_adapters_go_out_and_come_in(run, tmp_path):
    file = tmp_path / "adapters.safetensors"
    assert run("learn", "export", str(file)).exit_code == 0
    assert run("learn", "import", str(file)).exit_code == 0
    hub = tmp_path / "hub"
    assert run("learn", "export", str(hub)).exit_code == 0
    assert {one.name for one in hub.iterdir()} == {"adapter_model.safetensors", "adapter_config.json", "README.md"}
    assert (hub / "adapter_model.safetensors").read_bytes() == file.read_bytes()
    assert json.loads((hub / "adapter_config.json").read_text())["peft_type"] == "LORA"
    assert run("learn", "import", str(hub)).exit_code == 0
    assert run("learn", "dataset", str(tmp_path / "said.jsonl")).exit_code == 0
    file.write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    assert run("learn", "import", str(file)).exit_code == 2
