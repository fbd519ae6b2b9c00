"""`ruvllm models convert` as a person meets it."""

import json
import sys
from pathlib import Path

import gguf
import pytest
from click.testing import CliRunner

from ruvllm.cli.main import main

sys.path.append(str(Path(__file__).parents[1] / "native"))
from decoders import random_decoder, tokenizer, write_gguf

from ruvllm.text.tokenizer_file import read_tokenizer


@pytest.fixture
def file(tmp_path):
    write_gguf(random_decoder("qwen2", layers=1), tmp_path / "m.gguf", gguf.GGMLQuantizationType.Q8_0)
    return tmp_path / "m.gguf"


def test_a_file_is_converted_once(file, tmp_path):
    command = ["models", "convert", str(file), "--out", str(tmp_path / "out")]
    first = CliRunner().invoke(main, command)
    assert first.exit_code == 0
    assert "qwen2" in first.output
    assert "relative error" in first.output
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 2
    assert "there already" in again.output


def test_the_tokenizer_comes_with_it(file, tmp_path):
    asked = ["models", "convert", str(file), "--out", str(tmp_path / "out"), "--bits", "4", "--json"]
    manifest = json.loads(CliRunner().invoke(main, asked).output)
    assert {tensor["bits"] for tensor in manifest["tensors"] if tensor["name"].startswith("blk.")} == {4}
    assert manifest["tensors"][0]["bits"] == 8  # the embedding table, as it was
    assert manifest["ends"] == [0, 2]
    made = read_tokenizer(json.loads((tmp_path / "out" / "tokenizer.json").read_text("utf-8")))
    text = "<|im_start|>Zürich, 2345 Kühe\r\n  they've said\n<|im_end|>"
    assert made.ids(text) == tokenizer().encode(text).ids
    assert (tmp_path / "out" / "chat_template.jinja").read_text("utf-8").startswith("{% for")


def test_a_damaged_file_is_one_line(file, tmp_path):
    file.write_bytes(file.read_bytes()[:-9])
    result = CliRunner().invoke(main, ["models", "convert", str(file), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert result.output.startswith("error: m.gguf: ")
    assert len(result.output.splitlines()) == 1
