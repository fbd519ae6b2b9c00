"""Reads rows of which LLM answered which prompt well."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm import InputError

_TRUTH = {True: True, False: False, "true": True, "false": False}
_RIGHT = 0.5  # from which an answer's score counts as right
_NO_MODELS = frozenset({"prompt", "subject", "category", "id", "source"})
_SHAPE = 'write [{"prompt": …, "weak": true, "strong": false}]'


@dataclass(frozen=True, slots=True)
class TierRows:
    """Prompts, and which models were right.

    Attributes:
        models: "weak" and "strong", or whatever the rows call theirs.
        right: (n, models).
    """

    texts: tuple[str, ...]
    models: tuple[str, ...]
    right: NDArray[np.bool_]

    def rows(self, keep: NDArray[np.bool_]) -> TierRows:
        """Those where `keep` (n,) is true."""
        return TierRows(tuple(self.texts[i] for i in np.flatnonzero(keep)), self.models, self.right[keep])


def read_tier_rows(path: Path, models: Sequence[str] = ()) -> TierRows:
    """A JSON list of rows with a prompt and a truth value (or its name) for each model.

    {"models": […], "rows": [{"prompt": …, "scores": […]}]} is read, too; scores from 0.5 count as right.

    Args:
        models: which keys are models; those of the first row that hold truth values when empty.

    Raises:
        InputError: naming the row that is not well formed.
    """
    try:
        data = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror or error})"
        raise InputError(message, field=str(path), fix="check the path") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}"[:200], field=str(path), fix=_SHAPE) from None
    rows = data.get("rows") if isinstance(data, Mapping) else data
    if isinstance(data, Mapping) and isinstance(data.get("models"), list) and isinstance(rows, list):
        rows = [_by_name(row, data["models"], i) for i, row in enumerate(rows)]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, Mapping) for row in rows):
        raise InputError(f"{path} holds no list of rows", field=str(path), fix=_SHAPE)
    names = tuple(models) or tuple(key for key in rows[0] if key not in _NO_MODELS and _truth(rows[0][key]) is not None)
    if len(names) < 2:
        raise InputError("the first row names fewer than two models", field="rows[0]", fix=_SHAPE)
    return TierRows(
        tuple(_prompt(row, i) for i, row in enumerate(rows)),
        names,
        np.array([[_right(row, name, i) for name in names] for i, row in enumerate(rows)], np.bool_),
    )


def _by_name(row: Any, models: list[Any], i: int) -> Any:
    """The row with its scores under the names of their models."""
    scores = row.get("scores") if isinstance(row, Mapping) else None
    if (
        not isinstance(scores, list)
        or len(scores) != len(models)
        or not all(isinstance(x, int | float) for x in scores)
    ):
        message = f"rows[{i}].scores are not {len(models)} numbers"
        raise InputError(message, field=f"rows[{i}].scores", fix="give one from 0 to 1 for each of `models`")
    return {"prompt": row.get("prompt")} | {
        str(name): score >= _RIGHT for name, score in zip(models, scores, strict=True)
    }


def _truth(value: Any) -> bool | None:
    key = value.strip().lower() if isinstance(value, str) else value
    return _TRUTH.get(key) if isinstance(key, str | bool) else None


def _prompt(row: Mapping[str, Any], i: int) -> str:
    text = row.get("prompt")
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"rows[{i}].prompt is no text", field=f"rows[{i}].prompt", fix=_SHAPE)
    return text


def _right(row: Mapping[str, Any], name: str, i: int) -> bool:
    right = _truth(row.get(name))
    if right is None:
        where = f"rows[{i}].{name}"
        raise InputError(f"{where} is {row.get(name)!r}"[:120], field=where, fix="write true or false")
    return right
