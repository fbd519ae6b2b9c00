import numpy as np
import pytest

from ruvllm import Agent, ArtifactError, EncoderError, RuvLLM
from ruvllm.artifacts.host import load_npz
from ruvllm.encoders.protocol import run_now
from ruvllm.routing.fusion import RouterWeights
from ruvllm.routing.router import Router


class Named:
    """The static encoder under a name of its own."""

    def __init__(self, static, name):
        self._static, self.name, self.dim = static, name, static.dim

    async def encode(self, texts):
        return self._static.encode_now(list(texts))


@pytest.fixture
def arrays(static_llm: RuvLLM):
    return load_npz(static_llm.host.artifact("router.npz"), "router.npz")


def renamed(arrays, name):
    return {key.replace("ruvltra", name): value for key, value in arrays.items()}


def test_the_second_encoder_is_called_what_it_is(static_llm: RuvLLM, kitchen: list[Agent], arrays):
    weights = RouterWeights.from_arrays(renamed(arrays, "tiny"))
    assert set(weights.stages) == {"static", "tiny"}
    encoder = Named(static_llm.encoders.static, "tiny")
    for mode in ("cascade", "tiny"):
        router = Router(kitchen, static_llm.encoders.static, encoder, weights, mode=mode)
        decision = run_now(router.route("when shall the beans be sown?"))
        assert decision.encoder == "tiny"
        assert {"encode_tiny", "score_tiny"} <= set(decision.timings_us)
        assert run_now(router.scorer("tiny")).arrays()["cards"].shape == (len(kitchen), encoder.dim)
    alone = Router(kitchen, static_llm.encoders.static, encoder, weights, mode="static")
    assert run_now(alone.route("when shall the beans be sown?")).encoder == "static"


def test_an_encoder_that_is_not_there(static_llm: RuvLLM, kitchen: list[Agent]):
    with pytest.raises(EncoderError, match="ruvltra") as error:
        Router(kitchen, static_llm.encoders.static, None, static_llm.encoders.weights, mode="ruvltra")
    assert error.value.field == "encoder"


@pytest.mark.parametrize("key", ["scope_ruvltra", "ruvltra", "query_up", "recollection"])
def test_weights_that_lack_something(arrays, key):
    without = {name: value for name, value in arrays.items() if name != key}
    wrong = (arrays[key].astype(np.float64), arrays[key][None], arrays[key] * np.float32("nan"))
    for damaged in (without, *(arrays | {key: value} for value in wrong)):
        with pytest.raises(ArtifactError, match=key):
            RouterWeights.from_arrays(damaged)
