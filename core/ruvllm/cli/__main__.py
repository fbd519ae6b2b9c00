"""`python -m ruvllm.cli`: the command line where the `ruvllm` script is not on the path."""

from __future__ import annotations

from ruvllm.cli.main import main

if __name__ == "__main__":
    main(prog_name="ruvllm")
