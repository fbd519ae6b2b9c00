"""Rebuild the model artifacts: `python -m recipes STEP… --data DIR` (see `make models`)."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from recipes import steps

STEPS: dict[str, Callable[[Path], None]] = {
    "minilm": steps.minilm_onnx,
    "ruvltra": steps.ruvltra_onnx,
    "space": steps.space,
    "minilm-space": steps.minilm_space,
    "static": steps.static_encoder,
    "router": steps.router,
    "minilm-router": steps.minilm_router,
    "confidence": steps.confidence,
    "familiarity": steps.familiarity,
    "recollection": steps.recollection,
    "few": steps.few,
    "bodies": steps.bodies,
    "tiers": steps.tiers,
    "builtin": steps.builtin,
    "manifest": steps.manifest,
}


def main() -> None:
    """Run the steps named, or all of them, in their order."""
    parser = argparse.ArgumentParser(prog="python -m recipes", description=__doc__)
    parser.add_argument(
        "steps", nargs="*", default=[], metavar="STEP", help=f"of {', '.join(STEPS)}; all when none is named"
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the training data")
    arguments = parser.parse_args()
    unknown = [step for step in arguments.steps if step not in STEPS]
    if unknown:
        parser.error(f"no step {unknown[0]!r}: use {', '.join(STEPS)}")
    for name, step in STEPS.items():
        if not arguments.steps or name in arguments.steps:
            print(f"== {name}", flush=True)
            step(arguments.data)


if __name__ == "__main__":
    main()
