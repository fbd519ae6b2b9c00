"""The ruvllm server for native hosts."""

from ruvllm_edge.app import make_app
from ruvllm_edge.settings import Settings

__all__ = ["Settings", "make_app"]
