import numpy as np
import pytest

from ruvllm.encoders.cache import CachedEncoder, LruCache
from ruvllm.encoders.onnx import OnnxEncoder
from ruvllm.encoders.protocol import run_now, unit_rows
from ruvllm.encoders.static import StaticEncoder
from ruvllm.errors import EncoderError
from ruvllm.text.wordpiece import WordPiece

VOCAB = ["[UNK]", "[CLS]", "[SEP]", "red", "green", "blue"]


@pytest.fixture
def static() -> StaticEncoder:
    table = np.array([[0, 0], [0, 0], [0, 0], [100, 0], [0, 100], [-100, 0]], np.int8)
    return StaticEncoder(WordPiece(VOCAB), table, np.array([1, 1, 1, 0.5, 0.5, 0.5], np.float32))


def test_static_sums_its_tokens_and_normalises(static):
    rows = run_now(static.encode(["red", "red green", "red blue", ""]))
    np.testing.assert_allclose(rows[0], [1, 0])
    np.testing.assert_allclose(rows[1], [np.sqrt(0.5), np.sqrt(0.5)], rtol=1e-6)
    assert rows[2].tolist() == [0, 0]
    assert rows[3].tolist() == [0, 0]
    assert rows.dtype == np.float32


def test_onnx_runs_texts_one_by_one_and_projects():
    shapes = []

    def session(ids):
        shapes.append(ids.shape)
        assert ids.dtype == np.int64
        return np.array([[ids.shape[1], 0, 4]], np.float32)

    encoder = OnnxEncoder("ruvltra", WordPiece(VOCAB), session, np.eye(3, 2, dtype=np.float32))
    rows = run_now(encoder.encode(["red", "red green blue"]))
    assert shapes == [(1, 3), (1, 5)]
    np.testing.assert_allclose(rows, [[1, 0], [1, 0]])


def test_onnx_awaits_an_asynchronous_host():
    class Later:
        def __await__(self):
            yield
            return np.ones((1, 2), np.float32)

    encoder = OnnxEncoder("ruvltra", WordPiece(VOCAB), lambda ids: Later(), np.eye(2, dtype=np.float32))
    with pytest.raises(EncoderError, match="await"):
        run_now(encoder.encode(["red"]))
    coroutine = encoder.encode(["red"])
    coroutine.send(None)
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    np.testing.assert_allclose(done.value.value, [[np.sqrt(0.5)] * 2], rtol=1e-6)


def test_onnx_names_a_graph_of_another_width():
    encoder = OnnxEncoder(
        "ruvltra", WordPiece(VOCAB), lambda ids: np.ones((1, 5), np.float32), np.eye(2, dtype=np.float32)
    )
    with pytest.raises(EncoderError, match=r"\(1, 5\)"):
        run_now(encoder.encode(["red"]))


def test_unit_rows_keep_zero_rows_and_no_nan():
    assert unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == [[np.float32(0.6), np.float32(0.8)], [0, 0]]


def test_lru_forgets_the_least_recent():
    cache: LruCache[str, int] = LruCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert cache.get("b") is None
    assert (cache.get("a"), cache.get("c"), len(cache)) == (1, 3, 2)
    assert (cache.hits, cache.misses) == (3, 1)


def test_cached_encoder_encodes_each_text_once(static):
    asked = []

    class Counting:
        name, dim = "counting", 2

        async def encode(self, texts):
            asked.extend(texts)
            return await static.encode(texts)

    cached = CachedEncoder(Counting())
    first = run_now(cached.encode(["red", "green", "red"]))
    again = run_now(cached.encode(["green", "red"]))
    assert asked == ["red", "green"]
    np.testing.assert_array_equal(first[[1, 0]], again)
    assert run_now(cached.encode([])).shape == (0, 2)
