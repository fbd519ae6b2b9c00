"""A conversion in a process of its own: `python -m ruvllm_models.bench.convert FILE DIR`. Prints seconds and memory."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter

from ruvllm_models.bench.engine import peak_mb
from ruvllm_models.convert import convert


def _main() -> None:
    source, out = map(Path, sys.argv[1:])
    began = perf_counter()
    convert(source, out)
    told = {"seconds": perf_counter() - began, "peak_mb": peak_mb(), "file_mb": source.stat().st_size / 1e6}
    print(json.dumps(told))


if __name__ == "__main__":
    _main()
