"""Settings: one TOML file and `STREAMGATE_*` environment variables, read once, frozen.

Environment variables win over the file; nested keys are joined by two underscores:
`STREAMGATE_REDIS__URL`, `STREAMGATE_LIMITS__CONNECTIONS`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import BaseModel, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from service import channels
from service.channels import Namespace
from service.errors import ConfigError
from service.sections import (
    ApiSettings,
    ClientSettings,
    HookSettings,
    Limits,
    PresenceSettings,
    RedisSettings,
    ServerSettings,
    TokenSettings,
)

ENV_PREFIX = "STREAMGATE_"
ENV_DELIMITER = "__"


def _shipped_namespaces() -> dict[str, Namespace]:
    return {
        "quotes": Namespace(mode="latest", snapshot=True, history_size=1000),
        "scores": Namespace(mode="log", snapshot=True, history_size=0),
        "chat": Namespace(mode="log", history_size=10_000, history_ttl=7 * 86_400, chat=True),
        "user": Namespace(
            mode="log",
            personal=True,
            subscribe="authenticated",
            history="authenticated",
            history_ttl=7 * 86_400,
        ),
    }


class _Environment(EnvSettingsSource):
    """What is not JSON stays as it is: validation then says which variable it is, and what it should be."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


class Settings(BaseSettings):
    """Everything that can be configured. Built by `load`."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        hide_input_in_errors=True,
    )

    server: ServerSettings = ServerSettings()
    redis: RedisSettings = RedisSettings()
    limits: Limits = Limits()
    client: ClientSettings = ClientSettings()
    tokens: TokenSettings = TokenSettings()
    presence: PresenceSettings = PresenceSettings()
    hooks: HookSettings = HookSettings()
    api: ApiSettings = ApiSettings()
    default_namespace: str | None = Field(None, description="namespace of channels without a prefix")
    namespaces: dict[str, Namespace] = Field(
        default_factory=_shipped_namespaces, description="by name; replaces the shipped ones"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What `load` has put together, and nothing else: it decides what wins."""
        return (init_settings,)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in self.namespaces:
            if name == channels.RESERVED_NAMESPACE or not channels.NAMESPACE_NAME.fullmatch(name):
                raise ValueError(
                    f"namespaces.{name}: read {name!r}; allowed: a name of lower-case letters, digits, "
                    f"- and _, but not {channels.RESERVED_NAMESPACE!r}"
                )
            if self.namespaces[name].publication_bytes > self.limits.publication_bytes:
                raise ValueError(
                    f"namespaces.{name}.publication_bytes: read {self.namespaces[name].publication_bytes}; "
                    f"allowed: at most limits.publication_bytes ({self.limits.publication_bytes}), "
                    "beyond which nothing is delivered"
                )
        if self.default_namespace is not None and self.default_namespace not in self.namespaces:
            raise ValueError(
                f"default_namespace: read {self.default_namespace!r}; "
                f"allowed: one of the configured namespaces ({', '.join(self.namespaces)})"
            )
        for name, namespace in self.namespaces.items():
            for hook in ("subscribe", "publish"):
                if getattr(namespace, f"{hook}_hook") and not getattr(self.hooks, f"{hook}_url"):
                    raise ValueError(f"namespaces.{name}.{hook}_hook: read true; it needs hooks.{hook}_url")
        server = self.server
        last = server.admin_port + server.workers - 1
        if last > 65535:
            raise ValueError(
                f"server.admin_port: read {server.admin_port}; "
                f"allowed: at most {65536 - server.workers} with {server.workers} workers"
            )
        if server.port and server.admin_port <= server.port <= last:
            raise ValueError(
                f"server.admin_port: read {server.admin_port}; allowed: ports other than server.port "
                f"({server.port})" + (f" for all {server.workers} workers" if server.workers > 1 else "")
            )
        presence = self.presence
        if presence.dead_seconds < 2 * presence.heartbeat_seconds:
            raise ValueError(
                f"presence.dead_seconds: read {presence.dead_seconds:g}; "
                f"allowed: at least twice presence.heartbeat_seconds ({presence.heartbeat_seconds:g})"
            )
        if self.limits.message_bytes < self.limits.publication_bytes:
            raise ValueError(
                f"limits.message_bytes: read {self.limits.message_bytes}; "
                f"allowed: at least limits.publication_bytes ({self.limits.publication_bytes})"
            )
        if self.limits.commands_burst < self.limits.subscriptions:
            raise ValueError(
                f"limits.commands_burst: read {self.limits.commands_burst}; "
                f"allowed: at least limits.subscriptions ({self.limits.subscriptions}), "
                "since a client that reconnects resubscribes to all at once"
            )
        return self

    def namespace_of(self, channel: str) -> Namespace | None:
        """The namespace that a channel belongs to; None where the name is bad or nothing is configured."""
        try:
            name = channels.parse(channel)
        except ValueError:
            return None
        key = self.default_namespace if name.namespace is None else name.namespace
        return None if key is None else self.namespaces.get(key)


# Kubernetes sets such variables for a Service named streamgate, unless enableServiceLinks is false.
_SERVICE_LINK = re.compile(r"STREAMGATE_(\w+_)?(SERVICE_(HOST|PORT)|PORT)(_\w+)?")


def _refuse_unknown_environment() -> None:
    """pydantic-settings passes over variables it does not know; a misspelt limit would not be noticed."""
    for name in os.environ:
        if not name.startswith(ENV_PREFIX):
            continue
        first, *rest = name.removeprefix(ENV_PREFIX).lower().split(ENV_DELIMITER)
        known = first in Settings.model_fields
        if known and first != "namespaces" and rest:
            section = Settings.model_fields[first].annotation
            known = isinstance(section, type) and rest[0] in getattr(section, "model_fields", {})
        link = _SERVICE_LINK.fullmatch(name) and (
            "://" in os.environ[name] or "_SERVICE_" in name or "_TCP" in name
        )
        if not known and not link:
            raise ConfigError(
                f"environment: {name}: no such setting; names are made like STREAMGATE_SERVER__PORT, "
                "see docs/configuration.md for all of them"
            )


def load(path: Path | None = None, overrides: dict[str, Any] | None = None) -> Settings:
    """Read the settings: file, then environment, then `overrides` (the command line).

    Args:
        path: a TOML file, or None for defaults and environment alone.
        overrides: nested like the file; these win over everything.

    Raises:
        ConfigError: for a file that cannot be read, and for every wrong key at once.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as exc:
            raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from None
        except UnicodeDecodeError as exc:
            raise ConfigError(f"{path}: not UTF-8 text: {exc.reason} at byte {exc.start}") from None
        except tomllib.TOMLDecodeError as exc:
            raise ConfigError(f"{path}: not valid TOML: {exc}") from None
    _refuse_unknown_environment()
    # So that one variable for one key of a shipped namespace changes that key alone.
    shipped = {name: namespace.model_dump() for name, namespace in _shipped_namespaces().items()}
    try:
        merged = merge({"namespaces": shipped} | values, _Environment(Settings)())
        return Settings(**merge(merged, overrides or {}))
    except ValidationError as exc:
        lines = [_explain(path, overrides or {}, error) for error in exc.errors()]
        raise ConfigError("\n".join(lines)) from None


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base`, table by table, with what `over` says instead."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


#: What is allowed, in the words of a settings file, by pydantic's type of error.
_ALLOWED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("tuple_type", "list_type", "set_type", "frozen_set_type"), 'a list such as ["a", "b"]'),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a table of settings"),
    "string_type": "a text",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
}

#: The same where a variable holds it.
_ALLOWED_IN_VARIABLES = {
    'a list such as ["a", "b"]': 'a JSON list such as ["a","b"]',
    "a table of settings": "a JSON object, or one variable for each key",
}


def allowed(error: Any) -> str:
    """What pydantic's error says is allowed."""
    if error["type"] in _ALLOWED:
        return _ALLOWED[error["type"]].format(**error.get("ctx", {}))
    text: str = error["msg"]
    return text.removeprefix("Value error, ").removeprefix("Input should be ")


def _explain(path: Path | None, overrides: dict[str, Any], error: Any) -> str:
    """One line for one mistake: where it is, the key, what was read, what is allowed."""
    key = ".".join(str(part) for part in error["loc"])
    words = allowed(error)
    if not key:  # settings that contradict each other: the text has it all
        source = _source(path, overrides, words.partition(": ")[0])
        return f"{source}: {words}"
    source = _source(path, overrides, key)
    if error["type"] == "extra_forbidden":
        return f"{source}: {key}: no such setting; see docs/configuration.md for all of them"
    if source.startswith("environment"):
        words = _ALLOWED_IN_VARIABLES.get(words, words)
    read = repr(error.get("input"))
    if _is_secret(error["loc"]) or re.search(r"://[^/]*@", read):
        read = "a value that is not shown"
    place = source if source.startswith("--") else f"{source}: {key}"
    return f"{place}: read {read}; allowed: {words}"


def _source(path: Path | None, overrides: dict[str, Any], key: str) -> str:
    """Where the value of a key comes from: the option, the variable, or the file."""
    section, _, name = key.partition(".")
    if name in overrides.get(section, {}):
        return "--" + key.removeprefix("server.").replace(".", "-").replace("_", "-")
    while key:  # a variable may hold a whole section
        variable = ENV_PREFIX + key.upper().replace(".", ENV_DELIMITER)
        if variable in os.environ:
            return f"environment: {variable}"
        key = key.rpartition(".")[0]
    return str(path) if path else "settings"


def _is_secret(location: tuple[str | int, ...]) -> bool:
    """Whether what is there may hold a secret."""
    annotation: Any = Settings
    for part in location:
        fields = getattr(annotation, "model_fields", {})
        annotation = fields[part].annotation if part in fields else annotation
    return _holds_secret(annotation)


def _holds_secret(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(_holds_secret(field.annotation) for field in annotation.model_fields.values())
    return annotation is SecretStr or any(_holds_secret(part) for part in get_args(annotation))
