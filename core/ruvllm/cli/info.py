"""`ruvllm info`: what is installed, and whether the model artifacts are whole."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from ruvllm import ArtifactError, __version__
from ruvllm.agents.catalog import builtin_agents
from ruvllm.artifacts.host import NativeHost
from ruvllm.artifacts.machine import cores, memory_limit
from ruvllm.cli.console import fail, number, print_json, show_table
from ruvllm.cli.options import default_state, json_option, state_of


@click.command()
@json_option
@click.pass_context
def info(ctx: click.Context, as_json: bool) -> None:
    """Show versions, where the model artifacts are, and whether each is whole.

    Every artifact is read and its SHA-256 compared. The exit code is 1 when one is missing or damaged.

    \b
    Examples:
      ruvllm info
      ruvllm info --json
    """
    facts, artifacts, problem = _facts(ctx), *_artifacts(NativeHost())
    if as_json:
        print_json({**facts, "artifacts": artifacts, "problem": problem or None})
    else:
        show_table("ruvllm", ("", ""), [(name.replace("_", " "), str(value)) for name, value in facts.items()])
        rows = [(one["name"], number(one["mb"]), one["state"]) for one in artifacts]
        if rows:
            show_table("Artifacts", ("Name", "MB", "State"), rows, right=("MB",))
        if problem:
            fail(problem)
    ctx.exit(1 if problem else 0)


def _facts(ctx: click.Context) -> dict[str, Any]:
    host = NativeHost()
    try:
        folder = str(host.folder)
    except ArtifactError:
        folder = "not installed"
    return {
        "ruvllm": __version__,
        "python": platform.python_version(),
        "numpy": _version("numpy"),
        **_kernels(),
        "cores": cores(),
        "memory_limit_mb": None if (limit := memory_limit()) is None else limit // 1_000_000,
        "onnxruntime": _version("onnxruntime") if host.has_sessions() else "not installed",
        "artifacts_in": folder,
        "state": str(state_of(ctx, None) or default_state()),
        "builtin_agents": len(builtin_agents()),
        "encoder": "cascade" if host.has_sessions() else "static",
    }


def _kernels() -> dict[str, Any]:
    """What this processor can do, and which of it numpy's kernels use."""
    import numpy as np

    built: Any = np.show_config(mode="dicts")
    simd, blas = built.get("SIMD Extensions", {}), built.get("Build Dependencies", {}).get("blas", {})
    features = [*simd.get("baseline", ()), *simd.get("found", ())]
    return {
        "processor": platform.machine(),
        "cpu_features": " ".join(features) or "unknown",
        "blas": f"{blas.get('name', 'none')} {blas.get('version', '')}".strip(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _artifacts(host: NativeHost) -> tuple[list[dict[str, Any]], str]:
    """(each file of the manifest, "ok", "missing" or "damaged"; what is wrong with the first bad one)."""
    try:
        names = sorted(host.manifest)
    except ArtifactError as error:
        return [], str(error)
    found, problem = list[dict[str, Any]](), ""
    for name in names:
        state = "ok"
        try:
            host.artifact(name)
        except ArtifactError as error:
            state = "damaged" if (host.folder / name).exists() else "missing"
            problem = problem or str(error)
        found.append({"name": name, "mb": _megabytes(host.manifest[name].get("bytes")), "state": state})
    return found, problem


def _megabytes(size: Any) -> float:
    return round(size / 1e6, 3) if isinstance(size, int) else 0.0
