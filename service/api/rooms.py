"""The commands of chat, in the application's name (docs/chat.md)."""

from __future__ import annotations

from collections.abc import Mapping

from service.api.application import SERVER_USER, Application
from service.api.spec import AnyObject, Flag, Handler, Integer, Method, Parameter, Result, Schema, Text, Texts
from service.chat import rpc
from service.chat.parameters import MAX_NONCE, MAX_USER
from service.request import Request
from service.session.context import Context

_TEXT: Schema = {"type": "string"}
_INTEGER: Schema = {"type": "integer"}
_LIST: Schema = {"type": "array", "items": {"type": "object"}}
_OBJECT: Schema = {"type": "object"}


def _id(about: str = "The message.", *, required: bool = True) -> Text:
    return Text(about=about, required=required, most=40)


_CHANNEL = Text(about="The room.", required=True)
_AS_USER = Text(about='In whose name; "server" if missing.', most=MAX_USER)
_USER = Text(about="The user's id.", required=True, most=MAX_USER)
_REASON = Text(about="For the record.", least=0, most=rpc.MAX_REASON)
_CONTENT: Mapping[str, Parameter] = {
    "text": Text(about="What is said; either this or body.", least=0),
    "body": AnyObject(about="The same as an object."),
}
_SANCTION: Mapping[str, Parameter] = {
    "user": _USER,
    "seconds": Integer(about="For so long; 0 or missing: for ever.", most=rpc.MAX_SANCTION),
    "reason": _REASON,
}
_LISTED = Integer(about="100 if missing.", least=1, most=rpc.MAX_LISTED)


def _handler(name: str) -> Handler:
    async def call(context: Context, request: Request) -> Result:
        caller = Application(context.settings, request.text("as_user") or SERVER_USER)
        return await rpc.METHODS[name](context.chat, caller, request)

    return call


def _method(
    name: str,
    about: str,
    parameters: Mapping[str, Parameter],
    result: Mapping[str, Schema] | None = None,
    *optional: str,
) -> tuple[str, Method]:
    taken = {"channel": _CHANNEL, **parameters, "as_user": _AS_USER}
    return f"chat.{name}", Method(about, taken, _handler(f"chat.{name}"), result or {}, optional)


METHODS: dict[str, Method] = dict(
    (
        _method(
            "send",
            "Send a message.",
            {
                **_CONTENT,
                "reply_to": _id("The message it answers.", required=False),
                "nonce": Text(
                    about="Sent again within 5 minutes it writes nothing.", least=0, most=MAX_NONCE
                ),
            },
            {
                "id": _TEXT,
                "offset": _INTEGER,
                "time": _INTEGER,
                "nonce": _TEXT,
                "duplicate": {"type": "boolean"},
            },
            "nonce",
            "duplicate",
        ),
        _method("edit", "Change a message.", {"id": _id(), **_CONTENT}, {"edited": _INTEGER}),
        _method("delete", "Delete a message.", {"id": _id(), "reason": _REASON}),
        _method(
            "react",
            "Add a reaction, or take it back.",
            {
                "id": _id(),
                "key": Text(about="The reaction.", required=True, most=rpc.MAX_KEY),
                "remove": Flag(about="Take it back."),
            },
            {"counts": {"type": "object", "additionalProperties": _INTEGER}},
        ),
        _method("pin", "Pin a message.", {"id": _id()}),
        _method("unpin", "Unpin a message.", {"id": _id()}),
        _method("typing", "Tell that somebody types.", {"typing": Flag(about="true if missing.")}),
        _method("read", "Tell how far somebody has read.", {"id": _id()}, {"id": _TEXT}),
        _method(
            "reads",
            "How far users have read.",
            {"users": Texts(about="as_user if missing.", item=Text(least=0), most=rpc.MAX_MARKERS)},
            {"markers": {"type": "object", "additionalProperties": _TEXT}},
        ),
        _method(
            "history",
            "A page of messages, as they are now.",
            {
                "limit": Integer(about="50 if missing.", least=1, most=rpc.MAX_PAGE),
                "before": _id("Earlier ones, the newest first.", required=False),
                "after": _id("Later ones, the oldest first.", required=False),
            },
            {"messages": _LIST, "next": _TEXT, "limited": {"type": "boolean"}},
            "next",
            "limited",
        ),
        _method(
            "room",
            "What the room is like.",
            {},
            {
                "slow_seconds": _INTEGER,
                "role": _TEXT,
                "pins": _LIST,
                "title": _TEXT,
                "topic": _TEXT,
                "muted_until": _INTEGER,
                "banned_until": _INTEGER,
            },
            *("title", "topic", "muted_until", "banned_until"),
        ),
        _method(
            "set_room",
            "Change the room.",
            {
                "title": Text(least=0, most=rpc.MAX_TITLE),
                "topic": Text(least=0, most=rpc.MAX_TOPIC),
                "slow_seconds": Integer(about="Between two messages of a user.", most=rpc.MAX_SLOW),
            },
        ),
        _method(
            "set_role",
            "Give a user a role.",
            {"user": _USER, "role": Text(required=True, choices=("owner", "moderator", "member"))},
        ),
        _method("mute", "Keep a user from writing.", _SANCTION, {"until": _INTEGER}),
        _method("unmute", "Let a user write again.", {"user": _USER, "reason": _REASON}),
        _method("ban", "Keep a user out.", _SANCTION, {"until": _INTEGER}),
        _method("unban", "Let a user in again.", {"user": _USER, "reason": _REASON}),
        _method(
            "purge",
            "Delete all messages of a user.",
            {"user": _USER, "reason": _REASON},
            {"deleted": _INTEGER},
        ),
        _method("banned", "Who is banned.", {"limit": _LISTED}, {"banned": _LIST}),
        _method(
            "audit",
            "What moderators have done, the newest first.",
            {"limit": _LISTED, "before": _id("Earlier acts.", required=False)},
            {"acts": _LIST},
        ),
    )
)
