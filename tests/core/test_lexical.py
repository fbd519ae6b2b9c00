import math

import numpy as np

from ruvllm.text.lexical import MAX_CHARS, Bm25, HashedTfidf, content, stems


def test_inflections_and_spellings_meet_in_one_stem():
    assert len({stems(word)[0] for word in ("test", "tests", "testing", "tested", "TESTER")}) == 1
    assert stems("fetchUserData snake_case") == stems("fetch user data snake case")


def test_content_drops_stop_words_and_repeats():
    assert content(stems("please help me with the parser and the parser")) == stems("parser")


def test_bm25_is_okapi():
    docs = [{"a": 2.0, "b": 1.0}, {"b": 3.0}]
    k1, b, mean = 1.2, 0.5, 3.0
    norm = k1 * (1 - b + b * 3 / mean)
    idf = math.log(1 + (2 - 1 + 0.5) / (1 + 0.5))
    expected = idf * 2 * (k1 + 1) / (2 + norm)
    index = Bm25(docs, k1, b)
    np.testing.assert_allclose(index.scores(["a"]), [expected, 0], rtol=1e-6)
    np.testing.assert_allclose(index.scores(["a", "b"]), index.scores(["a"]) + index.scores(["b"]), rtol=1e-6)
    assert index.scores(["unknown"]).tolist() == [0, 0]
    assert [term for term, _ in index.matches(["b", "a", "unknown"], 0)] == ["a", "b"]


def test_bm25_of_nothing():
    assert Bm25([]).scores(["a"]).shape == (0,)


def test_hashed_features_have_unit_norm_and_know_only_their_terms():
    texts = [stems("deploy the web shop"), stems("bake the bread")]
    tfidf = HashedTfidf.fit(texts, width=4096)
    dense = tfidf.dense(texts)
    np.testing.assert_allclose(np.linalg.norm(dense, axis=1), 1, rtol=1e-5)
    assert abs(float(dense[0] @ dense[1])) < 0.3  # they share "the" alone
    assert len(tfidf.sparse(stems("zebra"))[0]) == 0


def test_order_matters_through_bigrams():
    tfidf = HashedTfidf.fit([stems("dog bites man"), stems("man bites dog")], width=4096)
    one, other = tfidf.dense([stems("dog bites man"), stems("man bites dog")])
    assert not np.allclose(one, other)


def test_a_megabyte_is_cut():
    assert len(stems("word " * 1_000_000)) <= MAX_CHARS
