"""`ruvllm models bench` makes a model, measures it, and says which promises hold."""

import json
from importlib.util import find_spec

import pytest
from click.testing import CliRunner

from ruvllm_models.bench import run
from ruvllm_models.bench.engine import Round
from ruvllm_models.bench.run import Engine, Speed
from ruvllm_models.cli import models

SMALL = ["bench", "--shape", "60M", "--rounds", "1", "--prompt", "16", "--tokens", "4", "--threads", "1"]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    kept = tmp_path_factory.mktemp("bench")
    results = [CliRunner().invoke(models, [*SMALL, "--keep", str(kept), *more]) for more in (["--json"], [])]
    assert [result.exit_code for result in results] == [0, 0], results[0].output
    return json.loads(results[0].stdout.splitlines()[-1]), results[1].stdout


def test_what_it_measures_is_what_a_process_can_have_done(told):
    found, table = told
    ours = found["engines"]["ours"]
    assert 1 < ours["tokens_per_second"] <= ours["best"] < 10_000
    assert 0 < ours["first_token_s"] < 600
    assert 34 < found["conversion"]["file_mb"] < 60  # 59 million weights in 4.5 bits and their words
    assert found["conversion"]["file_mb"] < ours["peak_mb"] < 1000
    assert found["met"]["convert"] is True
    assert (found["met"]["decode"] is None) == (find_spec("llama_cpp") is None)
    assert "First token of 16" in table
    assert "not measured" in table  # the model was kept: nothing was converted the second time


def test_an_engine_that_cannot_start_says_why(tmp_path):
    engine = Engine("ours", tmp_path / "nothing", 1)
    try:
        with pytest.raises(run.RuvllmError, match="cannot be read"):
            engine.round(4, 2)
    finally:
        engine.close()


def test_the_first_round_maps_the_weights_and_does_not_count(tmp_path):
    engine = Engine("ours", tmp_path / "nothing", 1)
    engine.close()
    engine.rounds += [Round(9.0, [5.0, 5.0], 300.0), Round(0.5, [0.1, 0.2], 310.0), Round(0.7, [0.1, 0.05], 320.0)]
    assert engine.speed() == Speed(pytest.approx(10), pytest.approx(20), pytest.approx(0.6), 320.0)
