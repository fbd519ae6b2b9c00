"""Whatever the document allows, and much that it does not, is answered as the document says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from conftest import Running, Writer, serving
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ruvllm import RuvLLM
from ruvllm_edge.app import OPERATIONS
from ruvllm_edge.openapi import document

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
SCHEMA = schemathesis.openapi.from_dict(document(OPERATIONS))


@pytest.fixture(scope="module")
def own() -> Iterator[Running]:
    """A server whom nobody else asks."""
    with serving(RuvLLM(encoder="static", backends={"small": Writer()})) as running:
        yield running


@SCHEMA.parametrize()
@settings(max_examples=4, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_the_document_keeps_its_word(case: schemathesis.Case, own: Running):
    case.validate_response(case.call(base_url=own.url), checks=CHECKS)
