"""The server of a team in the place of the state file on this machine: `--endpoint`, and its key."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import click

from ruvllm import BackendError

key_option = click.option(
    "--key", envvar="RUVLLM_API_KEY", default="", metavar="KEY", help="An API key of the server.  [env: RUVLLM_API_KEY]"
)


def endpoint_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--endpoint` and `--key`."""
    text = "A ruvllm server to ask and teach instead of the state file here.  [env: RUVLLM_ENDPOINT]"
    endpoint = click.option("--endpoint", envvar="RUVLLM_ENDPOINT", default="", metavar="URL", help=text)
    return endpoint(key_option(command))


def ask_server(endpoint: str, key: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """A server's answer; fields that are None are left out.

    Raises:
        BackendError: it cannot be reached, refuses, or is none of ruvllm's.
        ConfigError: the address cannot be one.
    """
    from ruvllm.learning.federated.client import RemoteCoordinator

    sent = json.dumps({name: value for name, value in body.items() if value is not None}).encode()
    try:
        answer = json.loads(RemoteCoordinator(endpoint, key).request(path, sent, "application/json"))
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        fix = "give the address of a ruvllm server"
        raise BackendError("the endpoint answered something else", kind="bad_response", field="endpoint", fix=fix)
    return answer
