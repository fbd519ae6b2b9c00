"""When is a task so near to a confirmed one that it belongs to the same agent? Read off labelled intents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recipes.common import load, read_json, save, static
from recipes.fits import fit_logistic
from ruvllm.encoders.families import FAMILIES
from ruvllm.encoders.protocol import unit_rows

_SETS = ("clinc150.json", "banking77.json")
_TEXTS = 6_000  # of each
_LEAST = 0.5  # cosine; what is farther is never taken for a duplicate

Floats = NDArray[np.float32]


def fit(data: Path) -> dict[str, float]:
    """Add P(same label | cosine to the nearest other text) to each router.npz, under the static encoder.

    Returns:
        the share of nearest texts with the same label above the bound where P is 0.9, of each set.
    """
    pairs = {name: _nearest(data / name) for name in _SETS}
    cosines = np.concatenate([cosine for cosine, _ in pairs.values()])
    same = np.concatenate([right for _, right in pairs.values()])
    weights = fit_logistic(cosines[:, None], same, penalty=1e-5)
    for family in FAMILIES.values():
        name = family.artifact("router.npz")
        save(name, **(load(name) | {"recollection": weights}))
    slope, intercept = weights.tolist()
    bound = (np.log(9) - intercept) / slope
    measured = {f"recollection_{name.partition('.')[0]}": _above(*pair, bound) for name, pair in pairs.items()}
    return {"recollection_bound": round(float(bound), 4), **measured}


def _nearest(path: Path) -> tuple[Floats, NDArray[np.bool_]]:
    rows = read_json(path)["train"]
    chosen = np.random.default_rng(0).permutation(len(rows))[:_TEXTS]
    labels = np.array([rows[i][1] for i in chosen])
    vectors = unit_rows(static().encode_now([rows[i][0] for i in chosen]))
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    nearest = cosines.argmax(1)
    best = cosines[np.arange(len(nearest)), nearest]
    near = best >= _LEAST
    return best[near].astype(np.float32), labels[nearest][near] == labels[near]


def _above(cosines: Floats, same: NDArray[np.bool_], bound: float) -> float:
    return round(float(same[cosines >= bound].mean()), 4)
