"""Probes and metrics, on the admin port."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from service.metrics import Metrics


def admin_routes(problems: Callable[[], list[str]], metrics: Metrics) -> list[Route]:
    """`/livez`, `/readyz` and `/metrics`.

    Args:
        problems: why the node is not ready; empty when it is.
    """

    async def livez(request: Request) -> Response:
        """The loop turns, or this would not be answered. Redis' absence is no reason to die."""
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        found = problems()
        return PlainTextResponse("\n".join(found or ["ok"]) + "\n", status_code=503 if found else 200)

    async def scrape(request: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", scrape)]
