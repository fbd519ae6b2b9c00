"""From the logits of a language model to its next token, the same on every host with the same seed.

Sources: Fan et al. 2018 (top-k), Holtzman et al. 2020 (top-p), Nguyen et al. 2024 (min-p), Keskar et al. 2019
(repetition penalty). The order is that of Hugging Face: penalty, temperature, top-k, top-p, min-p.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import BackendError
from ruvllm.inference.backend import LocalParams, Params

__all__ = ["Sampler", "StopText"]

_REPEATED = 256  # of the last tokens: of a long answer a penalty would forbid every common word
_SEEDS = 1 << 64  # a negative seed is one, too


class Sampler:
    """Picks the tokens of one answer. A repetition penalty is for those it picked, not for the prompt's."""

    def __init__(self, params: Params) -> None:
        self._params = LocalParams.of(params)
        seed = None if params.seed is None else params.seed % _SEEDS
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._picked = deque[int](maxlen=_REPEATED)

    def pick(self, logits: NDArray[Any]) -> tuple[int, float]:
        """A token and the logarithm of its probability under the model itself.

        Args:
            logits: (vocabulary,), any float dtype.

        Raises:
            BackendError: a logit is not a number, or all are -inf.
        """
        plain = logits.astype(np.float64)
        top = plain.max()
        if not np.isfinite(top):
            raise BackendError("the model's logits are no numbers", kind="bad_response", fix="convert the model again")
        token = self._choose(self._penalised(plain))
        self._picked.append(token)
        return token, float(plain[token] - top - np.log(np.exp(plain - top).sum()))

    def _penalised(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        penalty = self._params.repeat_penalty
        if penalty == 1 or not self._picked:
            return logits
        picked = np.unique(np.array(self._picked, np.int64))
        changed = logits.copy()
        values = changed[picked]
        changed[picked] = np.where(values > 0, values / penalty, values * penalty)
        return changed

    def _choose(self, logits: NDArray[np.float64]) -> int:
        params = self._params
        if params.temperature == 0:
            return int(logits.argmax())
        tokens = _largest(logits, params.top_k)
        values = logits[tokens] / params.temperature
        weights = np.exp(values - values[0])
        sums = np.cumsum(weights)
        # A token stays when those before it do not reach top_p yet: the first always does.
        kept = max(1, int(np.searchsorted(sums, params.top_p * sums[-1], "left")) + 1)
        kept = min(kept, int(np.searchsorted(-weights, -params.min_p, "right")))
        drawn = self._random.random() * sums[kept - 1]
        return int(tokens[min(int(np.searchsorted(sums, drawn, "right")), kept - 1)])


def _largest(logits: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Places of the `most` largest (0: all that are not -inf), largest first, ties in their order on every host."""
    if 0 < most < len(logits):
        bound = np.partition(logits, -most)[-most]
        above, level = np.flatnonzero(logits > bound), np.flatnonzero(logits == bound)
        places = np.concatenate([above, level[: most - len(above)]])
    else:
        places = np.flatnonzero(logits > -np.inf)
    places.sort()
    return places[np.argsort(-logits[places], kind="stable")].astype(np.int64)


class StopText:
    """Lets an answer through up to the first of some texts, whichever pieces it comes in.

    Attributes:
        stopped: one of them came.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def feed(self, piece: str) -> str:
        """What of the answer is certain now; what may be the beginning of a stop waits."""
        text = self._held + piece
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        waiting = max((self._overlap(text, stop) for stop in self._stops), default=0)
        cut = len(text) - waiting
        self._held = text[cut:]
        return text[:cut]

    def close(self) -> str:
        """What waited, when nothing follows."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Characters at the end of the text that a stop begins with."""
        return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
