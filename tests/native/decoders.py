"""Small random decoders for the tests, in the files that real ones come in, and what they compute in plain numpy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from tokenizers import Regex, Tokenizer, normalizers, trainers
from tokenizers import models as kinds
from tokenizers import pre_tokenizers as cutters

from ruvllm.cli.safetensors import export_safetensors
from ruvllm.text.pretokenize import QWEN2

HIDDEN, HEADS, KV_HEADS, INNER, VOCAB, CONTEXT, EPS, THETA = 256, 4, 2, 512, 512, 512, 1e-6, 10_000.0
PLACES = 3  # that a short convolution sees
SEEN, NEAR, FAR_THETA = 8, 6, 1_000_000.0  # of Gemma 3: places in most layers, one layer in so many sees all
WORDS = [
    "The ferry leaves at noon and comes back before the lamps are lit.",
    "def total(prices): return sum(price * 2 for price in prices)  # doubled",
    "Zürich, 2 345 Kühe; Ærø – niño: 'tis what they've said, isn't it?",
    "naïve\tcafé 東京の夜 🙂 Привет мир\r\n\n  indented",
]


@dataclass(frozen=True)
class Decoder:
    """Weights under Hugging Face's names for Llama, float32 (out, in). Of LFM2 every second layer is a convolution."""

    architecture: str
    layers: int
    tied: bool
    weights: dict[str, np.ndarray]

    @property
    def head_dim(self) -> int:
        return HIDDEN // HEADS

    def attends(self, layer: int) -> bool:
        return self.architecture != "lfm2" or layer % 2 == 1


def random_decoder(architecture: str, layers: int = 2, tied: bool = True, seed: int = 0) -> Decoder:
    rng = np.random.default_rng(seed)
    kv = KV_HEADS * HIDDEN // HEADS

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (rng.standard_normal((rows, columns)) * 1.3 / columns**0.5).astype(np.float32)

    def norm(width: int = HIDDEN) -> np.ndarray:
        return (1 + 0.1 * rng.standard_normal(width)).astype(np.float32)

    w = {"model.embed_tokens.weight": matrix(VOCAB, HIDDEN), "model.norm.weight": norm()}
    if not tied:
        w["lm_head.weight"] = matrix(VOCAB, HIDDEN)
    for i in range(layers):
        at = f"model.layers.{i}."
        w[at + "input_layernorm.weight"], w[at + "post_attention_layernorm.weight"] = norm(), norm()
        w[at + "mlp.gate_proj.weight"], w[at + "mlp.up_proj.weight"] = matrix(INNER, HIDDEN), matrix(INNER, HIDDEN)
        w[at + "mlp.down_proj.weight"] = matrix(HIDDEN, INNER)
        if architecture == "lfm2" and i % 2 == 0:
            w[at + "conv.in_proj.weight"], w[at + "conv.out_proj.weight"] = (
                matrix(3 * HIDDEN, HIDDEN),
                matrix(HIDDEN, HIDDEN),
            )
            w[at + "conv.conv.weight"] = rng.standard_normal((HIDDEN, 1, PLACES)).astype(np.float32)
            continue
        if architecture == "gemma3":
            w |= {at + f"{name}_out_norm.weight": norm() for name in ("attention", "mlp")}
        if architecture in ("lfm2", "gemma3"):
            w |= {at + f"self_attn.{name}_norm.weight": norm(HIDDEN // HEADS) for name in "qk"}
        for name, rows in (("q", HIDDEN), ("k", kv), ("v", kv)):
            w[at + f"self_attn.{name}_proj.weight"] = matrix(rows, HIDDEN)
            if architecture == "qwen2":
                w[at + f"self_attn.{name}_proj.bias"] = rng.standard_normal(rows).astype(np.float32) * 0.2
        w[at + "self_attn.o_proj.weight"] = matrix(HIDDEN, HIDDEN)
    return Decoder(architecture, layers, tied, w)


def reference_logits(model: Decoder, ids: list[int]) -> np.ndarray:
    """float64 (tokens, VOCAB), each place from all of its past anew: no cache, no fusing."""
    w, d = {name: value.astype(np.float64) for name, value in model.weights.items()}, model.head_dim
    gemma, places = model.architecture == "gemma3", np.arange(len(ids))

    def normed(x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * w[name]

    def turned(x: np.ndarray, theta: float) -> np.ndarray:
        angles = np.outer(places, theta ** (-np.arange(0, d, 2) / d))[:, None]
        cos, sin = np.cos(angles), np.sin(angles)
        a, b = x[..., : d // 2], x[..., d // 2 :]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def attended(y: np.ndarray, at: str, far: bool) -> np.ndarray:
        q, k, v = (
            (y @ w[f"{at}{n}_proj.weight"].T + w.get(f"{at}{n}_proj.bias", 0)).reshape(len(ids), -1, d) for n in "qkv"
        )
        if model.architecture in ("lfm2", "gemma3"):
            q, k = normed(q, f"{at}q_norm.weight"), normed(k, f"{at}k_norm.weight")
        q, k = (turned(part, FAR_THETA if gemma and far else THETA) for part in (q, k))
        k, v = (np.repeat(part, HEADS // KV_HEADS, axis=1) for part in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / d**0.5 + np.triu(np.full((len(ids), len(ids)), -np.inf), 1)
        if gemma and not far:
            scores[:, places[:, None] - places >= SEEN] = -np.inf
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("hqk,khd->qhd", shares / shares.sum(-1, keepdims=True), v)
        return mixed.reshape(len(ids), -1) @ w[f"{at}o_proj.weight"].T

    def convolved(y: np.ndarray, at: str) -> np.ndarray:
        b, c, x = np.split(y @ w[f"{at}in_proj.weight"].T, 3, axis=1)
        past = np.concatenate([np.zeros((PLACES - 1, HIDDEN)), b * x])
        kernel = w[f"{at}conv.weight"][:, 0]
        mixed = sum(past[i : i + len(ids)] * kernel[:, i] for i in range(PLACES))
        return (c * mixed) @ w[f"{at}out_proj.weight"].T

    x = w["model.embed_tokens.weight"][ids] * (HIDDEN**0.5 if gemma else 1)
    for i in range(model.layers):
        at = f"model.layers.{i}."
        y = normed(x, at + "input_layernorm.weight")
        far = i % NEAR == NEAR - 1
        mixed = attended(y, at + "self_attn.", far) if model.attends(i) else convolved(y, at + "conv.")
        x = x + (normed(mixed, at + "attention_out_norm.weight") if gemma else mixed)
        y = normed(x, at + "post_attention_layernorm.weight")
        gate = y @ w[at + "mlp.gate_proj.weight"].T
        opened = gate / (1 + np.exp(-gate))
        if gemma:
            opened = gate / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (gate + 0.044715 * gate**3)))
        fed = opened * (y @ w[at + "mlp.up_proj.weight"].T) @ w[at + "mlp.down_proj.weight"].T
        x = x + (normed(fed, at + "mlp_out_norm.weight") if gemma else fed)
    head = "model.embed_tokens.weight" if model.tied else "lm_head.weight"
    return normed(x, "model.norm.weight") @ w[head].T


def greedy_after(model: Decoder, prompt: list[int], answer: list[int]) -> list[int]:
    """The likeliest token at each place of an answer: the answer itself, if it was chosen greedily."""
    logits = reference_logits(model, [*prompt, *answer])
    return logits[len(prompt) - 1 : -1].argmax(-1).tolist()


def tokenizer() -> Tokenizer:
    """Qwen2's kind, trained on WORDS."""
    made = Tokenizer(kinds.BPE())
    made.normalizer = normalizers.NFC()
    cut = cutters.Split(Regex(QWEN2), "isolated")
    made.pre_tokenizer = cutters.Sequence([cut, cutters.ByteLevel(add_prefix_space=False, use_regex=False)])
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=cutters.ByteLevel.alphabet(), special_tokens=marks, show_progress=False
    )
    made.train_from_iterator(WORDS, trainer)
    return made


def write_folder(model: Decoder, folder: Path, shards: int = 1) -> Path:
    """As Hugging Face lays a model out."""
    folder.mkdir()
    config = {
        "model_type": model.architecture,
        "hidden_size": HIDDEN,
        "num_hidden_layers": model.layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "intermediate_size": INNER,
        "vocab_size": VOCAB,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": EPS,
        "rope_theta": THETA,
        "tie_word_embeddings": model.tied,
        "hidden_act": "silu",
        "eos_token_id": 2,
    }
    if model.architecture == "lfm2":
        kinds = ["full_attention" if model.attends(i) else "conv" for i in range(model.layers)]
        config |= {"layer_types": kinds, "conv_L_cache": PLACES, "norm_eps": EPS, "conv_bias": False}
    (folder / "config.json").write_text(json.dumps(config))
    names = sorted(model.weights)
    for i in range(shards):
        part = {_published(model, name): model.weights[name] for name in names[i::shards]}
        (folder / f"model-{i + 1:05}-of-{shards:05}.safetensors").write_bytes(export_safetensors(part))
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


_LFM2_NAMES = {
    "input_layernorm": "operator_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
    "self_attn.o_proj": "self_attn.out_proj",
    "q_norm": "q_layernorm",
    "k_norm": "k_layernorm",
    "model.norm": "model.embedding_norm",
}


def _published(model: Decoder, name: str) -> str:
    if model.architecture == "lfm2":
        for ours, theirs in _LFM2_NAMES.items():
            name = name.replace(f"{ours}.", f"{theirs}.")
    return name


_GGUF_NAMES = {
    "attention_out_norm": "post_attention_norm",
    "mlp_out_norm": "post_ffw_norm",
    "conv.in_proj": "shortconv.in_proj",
    "conv.conv": "shortconv.conv",
    "conv.out_proj": "shortconv.out_proj",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
}


def gguf_name(name: str) -> str:
    stem, kind = name.removeprefix("model.").rsplit(".", 1)
    if stem.startswith("layers."):
        _, layer, inner = stem.split(".", 2)
        return f"blk.{layer}.{_GGUF_NAMES[inner]}.{kind}"
    return f"{_GGUF_NAMES[stem]}.{kind}"


def _interleaved(rows: np.ndarray, head_dim: int) -> np.ndarray:
    """As llama.cpp keeps Llama's queries and keys: pairs that turn together side by side."""
    return rows.reshape(-1, 2, head_dim // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def write_gguf(model: Decoder, path: Path, kind: gguf.GGMLQuantizationType) -> dict[str, np.ndarray]:
    """A GGUF file; returns the weights as they are in it, dequantised, under Hugging Face's names."""
    out = gguf.GGUFWriter(path, model.architecture)
    out.add_block_count(model.layers)
    out.add_context_length(CONTEXT)
    out.add_embedding_length(HIDDEN)
    out.add_feed_forward_length(INNER)
    out.add_head_count(HEADS)
    if model.architecture == "lfm2":
        out.add_shortconv_l_cache(PLACES)
        out.add_head_count_kv([KV_HEADS * model.attends(i) for i in range(model.layers)])
    else:
        out.add_head_count_kv(KV_HEADS)
    out.add_layer_norm_rms_eps(EPS)
    out.add_rope_freq_base(FAR_THETA if model.architecture == "gemma3" else THETA)
    if model.architecture == "gemma3":
        out.add_sliding_window(SEEN)
    told = json.loads(tokenizer().to_str())
    vocab, marks = told["model"]["vocab"], {token["id"] for token in told["added_tokens"]}
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("qwen2")
    unused = [f"[PAD{i}]" for i in range(len(vocab), VOCAB)]  # a table has more rows than words in real files, too
    out.add_token_list([*sorted(vocab, key=vocab.__getitem__), *unused])
    out.add_token_types([3 if i in marks else 1 if i < len(vocab) else 5 for i in range(VOCAB)])
    out.add_token_merges([" ".join(pair) for pair in told["model"]["merges"]])
    out.add_eos_token_id(2)
    out.add_chat_template("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}")
    inside = {}
    for name, value in model.weights.items():
        stored = _interleaved(value, model.head_dim) if model.architecture == "llama" and _turns(name) else value
        stored = stored[:, 0] if value.ndim == 3 else stored
        chosen = gguf.GGMLQuantizationType.F32 if value.ndim == 1 or value.ndim == 3 else kind
        data = quantised(stored, chosen)
        last = model.architecture == "lfm2" and name == "model.norm.weight"
        out.add_tensor("token_embd_norm.weight" if last else gguf_name(name), data, raw_dtype=chosen)
        kept = gguf.quants.dequantize(data, chosen).astype(np.float32).reshape(value.shape)
        turned = model.architecture == "llama" and _turns(name)
        inside[name] = _straight(kept, model.head_dim) if turned else kept
    for step in (out.write_header_to_file, out.write_kv_data_to_file, out.write_tensors_to_file, out.close):
        step()
    return inside


def _turns(name: str) -> bool:
    return "q_proj" in name or "k_proj" in name


def _straight(rows: np.ndarray, head_dim: int) -> np.ndarray:
    return rows.reshape(-1, head_dim // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def quantised(values: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    """uint8 (rows, bytes of a row): `gguf`'s own bytes, or for the K kinds, which it only reads, those below."""
    by_hand = {"Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k}.get(kind.name)
    return gguf.quants.quantize(values, kind) if by_hand is None else by_hand(values).reshape(len(values), -1)


def _halves(values: np.ndarray) -> np.ndarray:
    return values.astype("<f2")[:, None].view(np.uint8)


def _minima(values: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """The head of a Q4_K or Q5_K block, uint8 (blocks, 16), and its numbers up to `top`, uint8 (blocks, 8, 32)."""
    x = values.reshape(-1, 8, 32)
    low = np.maximum(-x.min(-1), 0)
    step = (x.max(-1) + low) / top
    d, dmin = (part.max(-1).astype(np.float16).astype(np.float32) / 63 for part in (step, low))
    d, dmin = d.astype(np.float16), dmin.astype(np.float16)
    scale = np.clip(np.rint(step / d[:, None]), 1, 63).astype(np.uint8)
    least = np.clip(np.rint(low / dmin[:, None]), 0, 63).astype(np.uint8)
    grid = (d[:, None] * scale)[..., None].astype(np.float32)
    q = np.clip(np.rint((x + (dmin[:, None] * least)[..., None].astype(np.float32)) / grid), 0, top).astype(np.uint8)
    # Six bits each: four pairs as they are, and the other four in what those leave free.
    first = scale[:, :4] | (scale[:, 4:] >> 4 << 6)
    second = least[:, :4] | (least[:, 4:] >> 4 << 6)
    third = (scale[:, 4:] & 15) | (least[:, 4:] << 4)
    return np.concatenate([_halves(d), _halves(dmin), first, second, third], axis=1), q


def _nibbles(q: np.ndarray) -> np.ndarray:
    """Of each 64 numbers the first 32 in the low halves, the others in the high ones: uint8 (blocks, 128)."""
    return ((q[:, 0::2] & 15) | ((q[:, 1::2] & 15) << 4)).reshape(len(q), -1)


def _q4_k(values: np.ndarray) -> np.ndarray:
    head, q = _minima(values, 15)
    return np.concatenate([head, _nibbles(q)], axis=1)


def _q5_k(values: np.ndarray) -> np.ndarray:
    head, q = _minima(values, 31)
    fifth = np.bitwise_or.reduce((q >> 4) << np.arange(8, dtype=np.uint8)[:, None], axis=1)
    return np.concatenate([head, fifth, _nibbles(q)], axis=1)


def _q6_k(values: np.ndarray) -> np.ndarray:
    x = values.reshape(-1, 16, 16)
    peak = np.abs(x).max(-1) / 31
    d = (peak.max(-1) / 127).astype(np.float16)
    scale = np.clip(np.rint(peak / d[:, None]), 1, 127).astype(np.int8)
    q = np.clip(np.rint(x / (d[:, None] * scale)[..., None].astype(np.float32)), -32, 31).astype(np.int8) + 32
    q = q.astype(np.uint8).reshape(-1, 2, 4, 32)  # halves, quarters of them, numbers
    low = (q[:, :, :2] & 15) | ((q[:, :, 2:] & 15) << 4)
    high = np.bitwise_or.reduce((q >> 4) << np.array([0, 2, 4, 6], np.uint8)[:, None], axis=2)
    blocks = len(q)
    return np.concatenate([low.reshape(blocks, -1), high.reshape(blocks, -1), scale.view(np.uint8), _halves(d)], axis=1)
