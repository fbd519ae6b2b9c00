"""The groups of options that make up a `config.Config`, their defaults and what they may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ruvllm.hints import Options
from ruvllm.lazy_dataclass import dataclass

TIERS = ("booster", "small", "large")  # in the order of `types.Tier`
# To a client's own conversation: notes from memory, the agent's persona, and its good answers into memory.
ADDS = ("memory", "persona", "write-back")
KINDS = ("extractive", "echo", "openai", "anthropic", "local")
DIALECTS = ("openai", "llama.cpp", "vllm")


@dataclass(frozen=True, slots=True, repr=False)
class MemoryConfig(Options):
    """What is looked up for a query, and what is kept of it.

    Attributes:
        k: memories looked at, before their neighbourhood.
        hops: edges away that are looked at too, where not enough is hit.
        sources: memories given to the backend, at most.
        relevance: cosine from which a memory has something to do with a query.
        recall: share of the true nearest to be found.
        collection: where questions and answers are kept and looked up.
        write_back: whether good questions and answers are kept.
        statements: whether, with write_back, what users state and good answers state is kept too, sentence by sentence.
        keep_days: until what is kept so is forgotten; 0 for never.
        quality_threshold: from which they are good (FEATURES.md M5): their backend's confidence, until they are rated.
        write_batch, write_interval_ms: how many wait at most, and for how long.
        search: what of a text is looked for: "hybrid" its meaning and its words, "vectors" or "words" one of these.
        entities: when memories are looked for by the names in better hits: "clause" where a question speaks of somebody
            or something without naming it ("the person who …"), "always", or "never".
        window: memories before and after a source in its conversation or document that a model reads with it.
        recency: what being of today adds to a memory's score; half of it after 30 days.
        supersede: whether a new statement ends what an older one says of the same thing.
        ask_unsure: whether the large tier's model may read, in the background, the pairs of statements of which words
            alone do not tell whether one ends the other: a few at a time.
        index: how vectors are searched: "auto" takes what is fastest at the size, "flat", "binary", "ivf", "hnsw", or
            the compiled "usearch" and "hnswlib", where they are installed, are used whatever it is.
        tier_from: memories of a collection from which vectors are in memory as precisely as they are used: f32, f16,
            pq8 or binary, and whole in the file; 0 for never.
    """

    k: int = 64
    hops: int = 2
    sources: int = 5
    relevance: float = 0.35
    recall: float = 0.95
    collection: str = "default"
    write_back: bool = True
    statements: bool = True
    keep_days: int = 0
    quality_threshold: float = 0.75
    write_batch: int = 100
    write_interval_ms: int = 1_000
    search: str = "hybrid"
    entities: str = "clause"
    window: int = 1
    recency: float = 0.0
    supersede: bool = True
    ask_unsure: bool = False
    index: str = "auto"
    tier_from: int = 200_000


@dataclass(frozen=True, slots=True, repr=False)
class RouterConfig(Options):
    """The network that chooses model size, context and sampling.

    Attributes:
        hidden_dim, rank, sparsity: of its cell.
        explore: chance of a cheaper size than preferred, to learn whether it would do.
        tier_model: what names the tier of a task whose agent has none: "kept", what `ruvllm tiers train` put into the
            state file, or the words of the task where it put nothing; "words"; "shipped", trained on MMLU's exam
            questions; or the path of a file that `ruvllm tiers train` wrote.
        strategy: what decides on the agent: "hybrid"; "keywords" alone (BM25 over names, keywords and descriptions);
            or "embedding" alone (vectors of names and descriptions). The last two leave examples aside.
    """

    hidden_dim: int = 64
    rank: int = 8
    sparsity: float = 0.9
    explore: float = 0.0
    tier_model: str = "kept"
    strategy: str = "hybrid"


@dataclass(frozen=True, slots=True, repr=False)
class LearningConfig(Options):
    """How feedback teaches; `enabled` False keeps everything as it is.

    Attributes:
        patterns: outcomes of similar tasks vote on agents.
        query_adapter: what sources proved useful draws the vectors of later queries towards their like.
        sizes: rated answers teach the choice of model sizes.
        network: they train the model router's network as well, which reads a conversation as a whole.
        near_duplicates: confirmed tasks answer for near-duplicates.
        quality_threshold: below it an answer is a warning, not an example.
        ewc_lambda: where λ of consolidation starts.
        pattern_clusters: of one background cycle, at most.
        background_interval_ms: between two of them.
        requests: answers that feedback can still refer to.
    """

    enabled: bool = True
    patterns: bool = True
    query_adapter: bool = True
    sizes: bool = True
    network: bool = True
    near_duplicates: bool = True
    quality_threshold: float = 0.4
    ewc_lambda: float = 2_000.0
    pattern_clusters: int = 100
    background_interval_ms: int = 3_600_000
    requests: int = 10_000


@dataclass(frozen=True, slots=True, repr=False)
class FederatedConfig(Options):
    """Learning together with other installations: sums over groups of texts travel, never a text.

    Attributes:
        url: of the coordinator, a ruvllm server; while it is empty nothing travels by itself.
        api_key_env: the environment variable that holds a key of it; the key itself is never in a file.
        interval: seconds from one exchange to the next.
        least: texts in a group that travels.
        epsilon, delta: of each text, kept by noise (differential privacy); an epsilon of 0 adds none.
    """

    url: str = ""
    api_key_env: str = ""
    interval: float = 3_600.0
    least: int = 5
    epsilon: float = 0.0
    delta: float = 1e-5


@dataclass(frozen=True, slots=True, repr=False)
class SessionsConfig(Options):
    """How long conversations last, and whether a restart goes on with them.

    Attributes:
        ttl: seconds without use.
        most: at a time.
        characters: of all their histories together.
        keep: whether questions and answers go into the state file; False removes those that are there.
    """

    ttl: float = 3_600.0
    most: int = 10_000
    characters: int = 50_000_000
    keep: bool = True


@dataclass(frozen=True, slots=True, repr=False)
class BackendConfig(Options):
    """What answers the queries of one tier.

    Attributes:
        kind: one of "extractive", "echo", "openai", "anthropic", "local".
        url: of a server whose API is like OpenAI's or Anthropic's, up to and with its /v1.
        model: what that server calls it; of a local one its folder, or the name it was downloaded by.
        api_key_env: the environment variable that holds the key; the key itself is never in a file.
        timeout: seconds for a whole answer; read_timeout: without a sign of life, the wait for its first word included.
        retries: after the first try.
        context: tokens that prompt and answer may have together; 0 leaves it to the server behind `url` to refuse what
            is too long, and gives a local model 8,192 or what it can.
        prompt_price, completion_price: US dollars for a million tokens; cached_price: of those of a prompt that the
            server had read before, None for the same.
        dialect: which server is behind `url`, one of DIALECTS: the latter two get `top_k` and `repeat_penalty`.
        extra: fields of each request to it, whatever its caller says; None (null in the environment's JSON) leaves a
            field out.
    """

    kind: str = "extractive"
    url: str = ""
    model: str = ""
    api_key_env: str = ""
    timeout: float = 300.0
    read_timeout: float = 60.0
    retries: int = 2
    context: int = 0
    prompt_price: float = 0.0
    completion_price: float = 0.0
    cached_price: float | None = None
    dialect: str = "openai"
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class InferenceConfig(Options):
    """Who writes the answers, and how unless something else is asked (FEATURES.md I12).

    Attributes:
        tiers: a backend for each of TIERS; a tier without one takes the nearest that has.
        context: tokens of prompt and answer together, where the backend allows as many.
        max_tokens, temperature, top_p, top_k, repeat_penalty: None leaves them to the backend. A conversation that is
            passed on to a server behind a URL has only what its caller says.
        memory_mb: that loaded local models may take together, the least recently used going first; 0 for no limit but
            that of the container, where there is one.
        threads: of a local model; 0 for as many as this process, or its container, may use.
        queue: requests that may wait for a local model; more are turned away.
    """

    tiers: Mapping[str, BackendConfig] = field(default_factory=dict)
    context: int = 4_096
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repeat_penalty: float | None = None
    memory_mb: int = 0
    threads: int = 0
    queue: int = 16


# What a number may be; a key is its place without the tier's name.
RANGES: dict[str, tuple[float, float]] = {
    "memory.k": (1, 1_000),
    "memory.hops": (0, 5),
    "memory.sources": (0, 100),
    "memory.relevance": (-1.0, 1.0),
    "memory.recall": (0.01, 1.0),
    "memory.recency": (0.0, 1.0),
    "memory.window": (0, 8),
    "memory.quality_threshold": (0.0, 1.0),
    "memory.keep_days": (0, 36_500),
    "memory.write_batch": (1, 10_000),
    "memory.write_interval_ms": (0, 3_600_000),
    "memory.tier_from": (0, 10**9),
    "router.hidden_dim": (1, 4_096),
    "router.rank": (1, 4_096),
    "router.sparsity": (0.0, 0.99),
    "router.explore": (0.0, 1.0),
    "learning.quality_threshold": (0.0, 1.0),
    "learning.ewc_lambda": (100.0, 15_000.0),
    "learning.pattern_clusters": (1, 1_000),
    "learning.background_interval_ms": (0, 10**10),
    "learning.requests": (1, 1_000_000),
    "federated.interval": (60.0, 1e9),
    "federated.least": (2, 1_000),
    "federated.epsilon": (0.0, 100.0),
    "federated.delta": (1e-15, 0.1),
    "sessions.ttl": (0.001, 1e9),
    "sessions.most": (1, 1_000_000),
    "sessions.characters": (1_000, 10_000_000_000),
    "inference.context": (64, 10_000_000),
    "inference.max_tokens": (1, 1_000_000),
    "inference.temperature": (0.0, 2.0),
    "inference.top_p": (1e-6, 1.0),
    "inference.top_k": (0, 1_000_000),
    "inference.repeat_penalty": (1e-6, 10.0),
    "inference.memory_mb": (0, 10_000_000),
    "inference.threads": (0, 1_024),
    "inference.queue": (0, 100_000),
    "timeout": (0.001, 86_400.0),
    "read_timeout": (0.001, 86_400.0),
    "retries": (0, 100),
    "context": (0, 10_000_000),
    "prompt_price": (0.0, 1e9),
    "completion_price": (0.0, 1e9),
}
CHOICES = {
    "encoder": ("cascade", "ruvltra", "static", "minilm"),
    "dialect": DIALECTS,
    "kind": KINDS,
    "memory.search": ("hybrid", "vectors", "words"),
    "memory.entities": ("clause", "always", "never"),
    "memory.index": ("auto", "flat", "binary", "ivf", "hnsw", "usearch", "hnswlib"),
    "strategy": ("hybrid", "keywords", "embedding"),
}
