"""A question to the application's back end, and what stands between: see `Hook`.

It goes through cached answers, a bound on how many are under way, the circuit breaker, and a few retries.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import httpx
import orjson

from service.errors import (
    CLOSE_CODES,
    MAX_REASON_BYTES,
    ConfigError,
    Disconnect,
    ReplyError,
    SessionEnded,
    internal,
    not_available,
)
from service.identity import claims as read
from service.identity import http
from service.identity.answers import Answers
from service.identity.breaker import Breaker, RetryBudget
from service.metrics import Metrics
from service.sections import HookSettings
from service.streams.backoff import Backoff
from service.streams.quiet import OncePer

logger = logging.getLogger(__name__)

#: Questions of one kind under way at once; more wait, for as long as an answer may take.
CONCURRENCY = 64

#: Bytes of the largest answer, beside twice those of the question: it may hold what it was asked about.
MAX_ANSWER_BYTES = 65_536

#: Codes of errors that the application may answer with.
ERROR_CODES = range(100, 2000)

A = TypeVar("A")


class Hook(Generic[A]):
    """One kind of question.

    Args:
        name: connect, subscribe or publish.
        url: "" where nothing is asked.
        understand: reads a result; raises ValueError for what it cannot read.
        cache_seconds: for which answers are kept.
        clock: seconds, monotonic.

    Raises:
        ConfigError: the URL or the secret cannot be used.
    """

    def __init__(
        self,
        name: str,
        url: str,
        settings: HookSettings,
        metrics: Metrics,
        understand: Callable[[read.Claims], A],
        cache_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._settings = settings
        self._metrics = metrics
        self._understand = understand
        self._url = url and http.checked(f"hooks.{name}_url", url)
        # Not where nothing is asked: a client takes a while to make.
        self._client = http.client(CONCURRENCY, _headers(settings)) if url else None
        self._answers: Answers[A] = Answers(cache_seconds, clock)
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._breaker = Breaker(settings.breaker_failures, settings.breaker_seconds, clock)
        self._budget = RetryBudget()
        self._log_limit = OncePer(60.0)

    async def ask(self, client: str, question: dict[str, Any]) -> A:
        """The answer, understood; it may be one that another client got for the same question.

        Raises:
            ReplyError: what the application answers the client; 100, temporary, where there is no usable
                answer; 108 where no URL is configured.
            SessionEnded: the application wants the client to be disconnected.
        """
        if self._client is None:
            raise not_available(f"hooks.{self._name}_url is not configured")
        asked = orjson.dumps(question)
        kept = self._answers.get(asked)
        if kept is not None:
            return kept
        raw = await self._in_a_slot(self._client, orjson.dumps({"client": client, **question}))
        try:
            answer = self._understand(_result(raw))
        except ValueError as exc:
            self._failed("answer", str(exc))
            raise internal() from None
        self._answers.put(asked, answer, len(raw))
        return answer

    async def _in_a_slot(self, client: httpx.AsyncClient, body: bytes) -> bytes:
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                await self._slots.acquire()
        except TimeoutError:
            self._failed("busy", f"{CONCURRENCY} questions are under way")
            raise internal() from None
        try:
            return await self._with_retries(client, body)
        finally:
            self._slots.release()

    async def _with_retries(self, client: httpx.AsyncClient, body: bytes) -> bytes:
        self._budget.first_try()
        left, backoff = self._settings.retries, Backoff()
        while True:
            try:
                return await self._try(client, body)
            except http.NoAnswer as exc:
                self._failed(exc.reason, exc.text)
                if not (exc.overloaded and left and self._budget.retry()):
                    raise internal() from None
            left -= 1
            await asyncio.sleep(backoff.next())

    async def _try(self, client: httpx.AsyncClient, body: bytes) -> bytes:
        if not self._breaker.admits():
            self._metrics.hook_failures.labels(self._name, "breaker").inc()
            failure = internal()
            failure.retry_after = self._breaker.retry_after()
            raise failure
        started = time.perf_counter()
        try:
            answer = await http.ask(
                client,
                client.build_request("POST", self._url, content=body),
                seconds=self._settings.timeout_seconds,
                limit=MAX_ANSWER_BYTES + 2 * len(body),
            )
        except http.NoAnswer as exc:
            if not exc.overloaded:  # it lives: what one client asks must not stop the others
                self._breaker.succeeded()
            elif self._breaker.failed():
                seconds = self._settings.breaker_seconds
                logger.warning("hooks.%s_url is not asked for %g s", self._name, seconds)
            raise
        except BaseException:
            self._breaker.abandoned()
            raise
        self._breaker.succeeded()
        self._metrics.hook_seconds.labels(self._name).observe(time.perf_counter() - started)
        return answer

    def _failed(self, reason: str, text: str) -> None:
        self._metrics.hook_failures.labels(self._name, reason).inc()
        if self._log_limit.allows(reason):
            logger.warning("hooks.%s_url: no answer from %s: %s", self._name, http.place(self._url), text)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()


def _headers(settings: HookSettings) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    secret = settings.secret.get_secret_value()
    if secret:
        if not (secret.isascii() and secret.isprintable()):
            raise ConfigError("hooks.secret: cannot be sent in a header; allowed: printable ASCII")
        headers["Authorization"] = f"Bearer {secret}"
    return headers


def _result(raw: bytes) -> read.Claims:
    """The result of an answer.

    Raises:
        ReplyError: what the application answers the client.
        SessionEnded: it wants the client to be disconnected.
        ValueError: the answer is of no known shape.
    """
    try:
        answer = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise ValueError("the answer is not JSON") from None
    if isinstance(answer, dict):
        if isinstance(answer.get("error"), dict):
            raise _error(answer["error"])
        if isinstance(answer.get("disconnect"), dict):
            raise _disconnect(answer["disconnect"])
        if isinstance(answer.get("result"), dict):
            result: read.Claims = answer["result"]
            return result
    raise ValueError("the answer must be an object with an object result, error or disconnect")


def _error(fields: read.Claims) -> ReplyError:
    code, temporary = fields.get("code"), fields.get("temporary", False)
    if type(code) is not int or code not in ERROR_CODES:
        raise ValueError(f"error: code must be an integer from {ERROR_CODES[0]} to {ERROR_CODES[-1]}")
    if not isinstance(temporary, bool):
        raise ValueError("error: temporary must be a boolean")
    return ReplyError(code, read.text(fields, "message"), temporary=temporary)


def _disconnect(fields: read.Claims) -> SessionEnded:
    code, reason = fields.get("code"), read.text(fields, "reason")
    if type(code) is not int or code not in CLOSE_CODES:
        raise ValueError(f"disconnect: code must be an integer from {CLOSE_CODES[0]} to {CLOSE_CODES[-1]}")
    if len(reason.encode()) > MAX_REASON_BYTES:
        raise ValueError(f"disconnect: reason must have at most {MAX_REASON_BYTES} bytes")
    return SessionEnded(Disconnect(code, reason))
