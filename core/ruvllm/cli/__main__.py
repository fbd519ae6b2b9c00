"""The command `ruvllm`, also as `python -m ruvllm.cli` where the script is not on the path."""

from __future__ import annotations

import sys


def run() -> None:
    """Run it; without what it needs it says so, except in a hook, which never stands in a prompt's way."""
    if sys.argv[1:2] == ["hook"]:
        from ruvllm.cli.hook.resident import answered

        if answered(sys.argv[2:]):
            return
    import gc

    gc.set_threshold(50_000)  # a start makes much that stays: looking for what can go took a tenth of its time
    try:
        from ruvllm.cli.main import main
    except ImportError as error:
        quiet = "hook" in sys.argv and "--debug" not in sys.argv
        sys.exit(0 if quiet else f"error: {error}. pip install ruvllm")
    main(prog_name="ruvllm")


if __name__ == "__main__":
    run()
