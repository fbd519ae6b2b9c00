"""Which neighbours a node of an HNSW graph is linked to: the paper's choice, for many nodes at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["NONE", "attach", "detach", "grouped", "select"]

NONE = np.int32(2**31 - 1)  # no link; beyond all nodes, so that clipping takes it to a place that is always visited
_BLOCK = 1_024  # nodes whose candidates are compared with one another at a time
_FEW = 4
_CONSIDERED = 2  # candidates for each link of a crowded node

Floats = NDArray[np.float32]
Links = NDArray[np.int32]


def select(points: Floats, candidates: Links, scores: Floats, keep: int, *, fill: bool) -> Links:
    """Diverse neighbours (algorithm 4 of Malkov & Yashunin 2018): (m, keep), filled up with NONE.

    A candidate stays if it is nearer to the node than to every candidate that stays before it.

    Args:
        points: float32 (n, dim) of length one.
        candidates: (m, c) nearest first, NONE where there are fewer.
        scores: (m, c) their inner products with their node, -inf for NONE.
        fill: take the nearest of the others into places that are left.
    """
    chosen = np.full((len(candidates), keep), NONE, np.int32)
    for start in range(0, len(candidates), _BLOCK):
        part, own = candidates[start : start + _BLOCK], scores[start : start + _BLOCK]
        stays = _diverse(points, part, own)
        rank = np.where(stays, 0, 1 if fill else 2)
        rank[part == NONE] = 2
        order = rank.argsort(1, kind="stable")[:, :keep]
        picked = np.take_along_axis(part, order, 1)
        picked[np.take_along_axis(rank, order, 1) == 2] = NONE
        chosen[start : start + len(part), : picked.shape[1]] = picked
    return chosen


def _diverse(points: Floats, candidates: Links, scores: Floats) -> NDArray[np.bool_]:
    """(m, c) which candidates stay, for one block."""
    vectors = points.take(candidates, 0, mode="clip")  # (m, c, dim)
    between = np.matmul(vectors, vectors.transpose(0, 2, 1))
    nearer = between >= scores[:, None, :]  # [node, i, j]: i is at least as near to j as the node is
    stays = np.not_equal(candidates, NONE)
    for i in range(candidates.shape[1] - 1):
        stays[:, i + 1 :] &= ~(nearer[:, i, i + 1 :] & stays[:, i, None])
    return stays


def grouped(points: Floats, nodes: Links, others: Links) -> tuple[Links, Links, Floats]:
    """Edges, sorted out by node: the nodes (m,), their others (m, c) nearest first and the scores of these.

    Edges that come twice or lead back to their node are dropped.
    """
    apart = nodes != others
    keys = np.unique(nodes[apart].astype(np.int64) * len(points) + others[apart])
    nodes, others = (keys // len(points)).astype(np.int32), (keys % len(points)).astype(np.int32)
    scores = np.empty(len(keys), np.float32)
    for start in range(0, len(keys), 32 * _BLOCK):
        part = slice(start, start + 32 * _BLOCK)
        np.einsum("ij,ij->i", points.take(nodes[part], 0), points.take(others[part], 0), out=scores[part])
    order = np.lexsort((-scores, nodes))
    found, starts, counts = np.unique(nodes, return_index=True, return_counts=True)
    places = np.arange(len(keys)) - np.repeat(starts, counts)
    rows = np.repeat(np.arange(len(found)), counts)
    width = int(counts.max(initial=0))
    candidates, values = np.full((len(found), width), NONE, np.int32), np.full((len(found), width), -np.inf, np.float32)
    candidates[rows, places], values[rows, places] = others[order], scores[order]
    return found, candidates, values


def attach(points: Floats, links: Links, nodes: Links, candidates: Links, scores: Floats) -> None:
    """Link nodes (m,) to the best of their candidates, and these back to them.

    Args:
        links: (n, degree), changed in place; a node gets half its degree, the rest is for links back.
        candidates: (m, c) nearest first, with their scores, as in `select`.
    """
    degree = links.shape[1]
    chosen = select(points, candidates, scores, degree // 2, fill=True)
    links[nodes] = NONE
    links[nodes, : chosen.shape[1]] = chosen
    back_to, back_from = _edges(nodes, chosen)
    if len(back_to):
        touched = np.unique(back_from)
        sources, targets = _edges(touched, links[touched])
        _relink(points, links, np.concatenate([sources, back_from]), np.concatenate([targets, back_to]))


def detach(points: Floats, links: Links, gone: Links) -> None:
    """Take nodes out; those that were linked to them choose anew among what they and the gone were linked to."""
    if len(gone) <= _FEW:
        hit = np.any([links == node for node in gone], axis=0)
    else:
        dead = np.zeros(len(links) + 1, bool)
        dead[gone] = True
        hit = dead.take(links, mode="clip")
    hit[gone] = False
    at, column = np.divmod(np.flatnonzero(hit), links.shape[1])  # np.nonzero of two axes is ten times slower
    if len(at):
        sources, targets = _edges(np.unique(at).astype(np.int32), links[np.unique(at)])
        heirs = links[links[at, column]]
        more_sources, more = _edges(at.astype(np.int32), heirs)
        sources, targets = np.concatenate([sources, more_sources]), np.concatenate([targets, more])
        alive = ~np.isin(targets, gone)
        links[np.unique(at)] = NONE
        _relink(points, links, sources[alive], targets[alive])
    links[gone] = NONE


def _relink(points: Floats, links: Links, nodes: Links, others: Links) -> None:
    """Give nodes these links, the best of them where they are too many."""
    degree = links.shape[1]
    found, candidates, scores = grouped(points, nodes, others)
    crowded = (candidates[:, degree:] != NONE).any(1)
    kept = candidates[:, :degree]
    if crowded.any():
        kept = kept.copy()
        near = slice(_CONSIDERED * degree)
        kept[crowded] = select(points, candidates[crowded, near], scores[crowded, near], degree, fill=True)
    links[found, : kept.shape[1]] = kept


def _edges(nodes: Links, links: Links) -> tuple[Links, Links]:
    """(m,) nodes and their links (m, c) as edges."""
    there = links != NONE
    return np.repeat(nodes, there.sum(1)), links[there]
