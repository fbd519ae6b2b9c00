"""The full hybrid on collections that were left out, with encoders that never saw them, before one is shipped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recipes.router import cross_fit, leave_one_out, unseen


def leave_groups_out(data: Path, folders: Mapping[str, Path], share: float, adapted: bool) -> dict[str, float]:
    """Micro averages over the folds of one collection.

    Args:
        folders: group -> folder of the encoder that was trained without it.
        share: of the tuned weights, averaged with the untouched.
        adapted: with the router's adapters on top, or without.
    """
    materials = {folder: unseen(data, folder, share) for folder in set(folders.values())}
    features = cross_fit(lambda group: materials[folders[group]], adapted=adapted)
    return leave_one_out(next(iter(materials.values())).collections, features)
