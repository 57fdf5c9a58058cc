"""The OpenAPI document tells the truth: the API answers as it says, and refuses what it does not allow."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import hypothesis
import pytest_asyncio
import schemathesis
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.specs.openapi import checks

from service.api.document import document
from service.api.methods import METHODS
from service.chat import rpc
from tests.support import api
from tests.support.node import NodeProcess
from tests.support.nodes import running
from tests.support.redis_process import RedisProcess

#: Calls of one method, of what the document allows and of what it does not.
EXAMPLES = 8

CHECKS: list[Any] = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def one() -> AsyncIterator[NodeProcess]:
    """On a Redis of its own: calls that ask all nodes wait for none that another test has killed."""
    with RedisProcess() as redis:
        redis.start()
        async with running(redis.url, {"api": api.API}) as (node,):
            yield node


def test_it_is_openapi() -> None:
    """3.1, by a validator that is not ours."""
    OpenAPIV31SpecValidator(json.loads(json.dumps(document(METHODS)))).validate()


def test_every_method_is_in_it() -> None:
    """Those of chat, too."""
    assert rpc.METHODS.keys() <= METHODS.keys()
    assert document(METHODS)["paths"].keys() == {f"/api/{name}" for name in METHODS}


def test_it_is_kept(one: NodeProcess) -> None:
    """Status, content type and shape are those of the document; what it forbids is an error."""
    url = f"http://127.0.0.1:{one.admin_port}/openapi.json"
    for found in schemathesis.openapi.from_url(url).get_all_operations():
        _try_out(found.ok(), one)  # type: ignore[union-attr] # an error fails here, too


def _try_out(operation: Any, node: NodeProcess) -> None:
    allowed = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
    forbidden = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
    base = f"http://127.0.0.1:{node.admin_port}"

    def run(case: schemathesis.Case[Any]) -> None:
        response = case.call(base_url=base, headers={"X-API-Key": api.KEY})
        assert response.status_code < 500
        case.validate_response(response, checks=CHECKS)
        if case.meta is not None and case.meta.generation.mode is schemathesis.GenerationMode.NEGATIVE:
            assert "error" in response.json(), (case.body, response.text)

    settings = hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    for strategy in (allowed, forbidden):
        given: Any = hypothesis.given(strategy)
        settings(given(run))()
