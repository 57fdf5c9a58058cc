"""The application as it acts: it may do everything, in channels that there are."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from service import channels
from service.channels import Namespace
from service.config import Settings
from service.errors import ReplyError, limit_exceeded, unknown_channel
from service.identity.identity import Action
from service.session.context import Context

#: Who acts in chat, where a call does not say.
SERVER_USER = "server"


class Application:
    """The application as a caller of chat commands.

    Args:
        user: in whose name it acts.
    """

    def __init__(self, settings: Settings, user: str) -> None:
        self._settings = settings
        self.user = user

    def info(self, channel: str) -> bytes:
        """Who acts, as others see it."""
        return orjson.dumps({"user": self.user})

    def allowed(self, channel: str, action: Action) -> Namespace:
        """The channel's namespace; ReplyError 102 where there is none."""
        return namespace_of(self._settings, channel)

    def moderates(self, channel: str) -> bool:
        """It does, in every room."""
        return True


def namespace_of(settings: Settings, channel: str) -> Namespace:
    """The channel's namespace.

    Raises:
        ReplyError: 102; the text says what is wrong with the name.
    """
    namespace = settings.namespace_of(channel)
    if namespace is not None:
        return namespace
    code = unknown_channel()
    try:
        prefix = channels.parse(channel).namespace
    except ValueError as exc:
        raise ReplyError(code.code, f"{code.message}: {exc}") from None
    known = ", ".join(settings.namespaces)
    what = "a name without namespace" if prefix is None else f"no namespace {prefix[:50]!r}"
    raise ReplyError(code.code, f"{code.message}: {what}; there are {known}")


async def order(context: Context, command: Mapping[str, object]) -> None:
    """Have all nodes carry out a command.

    Raises:
        ReplyError: 106, nodes would not read anything so large.
        Unavailable, CommandFailed: as `Control.send`.
    """
    most = context.settings.limits.publication_bytes
    if len(orjson.dumps(command)) > most:
        raise limit_exceeded(f"what is told to all nodes has at most {most} bytes")
    await context.control.send(dict(command))
