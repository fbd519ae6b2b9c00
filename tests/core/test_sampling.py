import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruvllm.errors import BackendError, InputError
from ruvllm.inference.backend import LocalParams, Params
from ruvllm.inference.causal_lm import Sampler, StopText
from ruvllm.options import InferenceConfig

LOGITS = np.log(np.array([0.05, 0.4, 0.2, 0.3, 0.05], np.float32))


def drawn(params, logits=LOGITS, count=400):
    sampler = Sampler(params)
    counts = np.zeros(len(logits), int)
    for _ in range(count):
        counts[sampler.pick(logits)[0]] += 1
    return counts


def plain(**options):
    return Params(**({"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repeat_penalty": 1.0, "seed": 1} | options))


def test_cold_takes_the_likeliest():
    assert drawn(plain(temperature=0)).tolist() == [0, 400, 0, 0, 0]


def test_draws_follow_the_probabilities():
    shares = drawn(plain(), count=20_000) / 20_000
    np.testing.assert_allclose(shares, np.exp(LOGITS), atol=0.012)


def test_temperature_sharpens():
    shares = drawn(plain(temperature=0.5), count=20_000) / 20_000
    squared = np.exp(2 * LOGITS)
    np.testing.assert_allclose(shares, squared / squared.sum(), atol=0.012)


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"top_k": 1}, {1}),
        ({"top_k": 3}, {1, 2, 3}),
        ({"top_p": 0.4}, {1}),  # the first alone is enough
        ({"top_p": 0.45}, {1, 3}),
        ({"top_p": 0.89}, {1, 2, 3}),
        ({"min_p": 0.6}, {1, 3}),
        ({"min_p": 1.0}, {1}),
        ({"min_p": 0.6, "top_k": 1}, {1}),
        ({"top_k": 4}, {0, 1, 2, 3}),  # of equals the first
    ],
)
def test_what_can_be_drawn(options, left):
    assert set(np.flatnonzero(drawn(plain(**options), count=600))) == left


def test_a_penalty_holds_back_what_the_answer_has_already():
    # 0.4 before; log(0.4) · 3 is below log(0.3).
    sampler = Sampler(plain(temperature=0, repeat_penalty=3.0))
    assert [sampler.pick(LOGITS)[0] for _ in range(3)] == [1, 3, 2]
    positive = np.array([2.0, 1.5], np.float32)
    sampler = Sampler(plain(temperature=0, repeat_penalty=2.0))
    assert [sampler.pick(positive)[0] for _ in range(2)] == [0, 1]


def test_repeat_penalty_is_1_unless_somebody_sets_it():
    assert Params().repeat_penalty is InferenceConfig().repeat_penalty is None
    assert LocalParams.of(Params()).repeat_penalty == 1.0


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**63 - 1])
def test_a_seed_may_be_any_64_bits(seed):
    assert Sampler(plain(seed=seed)).pick(LOGITS) == Sampler(plain(seed=seed)).pick(LOGITS)


def test_a_seed_decides():
    def tokens(seed):
        sampler = Sampler(plain(seed=seed))
        return [sampler.pick(LOGITS)[0] for _ in range(40)]

    # These very tokens on every host: PCG64 draws alike everywhere.
    assert tokens(7)[:16] == [3, 2, 2, 1, 1, 2, 1, 2, 2, 3, 1, 1, 1, 3, 3, 3]
    assert tokens(7) != tokens(8)


def test_the_probability_is_the_models_own():
    sampler = Sampler(plain(temperature=0, repeat_penalty=2.0))
    sampler.pick(LOGITS[::-1])
    _, logprob = sampler.pick(LOGITS + 5)
    assert logprob == pytest.approx(np.log(0.4), abs=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers(bad):
    with pytest.raises(BackendError) as caught:
        Sampler(plain()).pick(np.array([0.0, bad], np.float32))
    assert caught.value.kind == "bad_response"


def test_forbidden_tokens_are_never_drawn():
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0], np.float32)
    assert set(np.flatnonzero(drawn(plain(), logits))) == {1, 3}


def test_min_p_has_a_range():
    with pytest.raises(InputError):
        Params(min_p=1.5)


@pytest.mark.parametrize(
    ("stops", "pieces", "said"),
    [
        (("END",), ["abE", "N", "D", "x"], ["ab", "", ""]),
        (("END",), ["E", "NE", "ND!"], ["", "EN", ""]),
        (("\n\n", "User:"), ["a\n", "b\nUs", "er:"], ["a", "\nb\n", ""]),
        ((), ["a", "b"], ["a", "b"]),
    ],
)
def test_stop_texts(stops, pieces, said):
    stop = StopText(stops)
    out = []
    for piece in pieces:
        out.append(stop.feed(piece))
        if stop.stopped:
            break
    assert out == said


@settings(deadline=None)
@given(st.lists(st.text("abc", max_size=3)), st.lists(st.text("abc", min_size=1, max_size=3), max_size=3))
def test_a_stop_is_found_however_the_answer_is_cut(pieces, stops):
    stop, out = StopText(stops), ""
    for piece in pieces:
        out += stop.feed(piece)
        if stop.stopped:
            break
    out += stop.close()
    whole = "".join(pieces)
    ends = [whole.find(text) for text in stops if text in whole]
    assert whole.startswith(out)
    assert stop.stopped == bool(ends)
    assert out == whole or stop.stopped
    assert not any(text in out for text in stops)
