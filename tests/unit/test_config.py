"""config: one file and the environment; every mistake names the key, what was read and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.config import Settings, load
from service.errors import ConfigError

pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """Writes a settings file."""

    def write(text: str) -> Path:
        path = tmp_path / "streamgate.toml"
        path.write_text(text)
        return path

    return write


def _mistake(path: Path | None = None, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as info:
        load(path, overrides)
    return str(info.value)


# What is read


def test_defaults_are_closed() -> None:
    """Without a file the shipped namespaces are there, and no client may publish anywhere."""
    settings = load()
    assert {name: n.mode for name, n in settings.namespaces.items()} == {
        "quotes": "latest",
        "scores": "log",
        "chat": "log",
        "user": "log",
    }
    assert all(n.publish == "nobody" for n in settings.namespaces.values())
    assert settings.default_namespace is None
    assert settings.server.host == "127.0.0.1"
    assert not settings.server.demo_page


def test_a_file_is_read(file: Any) -> None:
    """Sections are tables; namespaces replace the shipped ones."""
    settings = load(file('[server]\nport = 81\n[namespaces.n]\nmode = "latest"\nnumeric_fields = ["a"]\n'))
    assert settings.server.port == 81
    assert list(settings.namespaces) == ["n"]
    assert settings.namespaces["n"].numeric_fields == {"a"}


def test_the_environment_wins_over_the_file(file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key by key: what the environment does not say stays as the file has it."""
    monkeypatch.setenv("STREAMGATE_SERVER__PORT", "82")
    monkeypatch.setenv("STREAMGATE_REDIS__URL", "redis://env")
    settings = load(file('[server]\nport = 81\nhost = "0.0.0.0"\n[redis]\nurl = "redis://file"\n'))
    assert (settings.server.port, settings.server.host) == (82, "0.0.0.0")
    assert settings.redis.url.get_secret_value() == "redis://env"


def test_the_command_line_wins_over_everything(file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Overrides leave their neighbours alone."""
    monkeypatch.setenv("STREAMGATE_SERVER__PORT", "82")
    path = file("[server]\nport = 81\nbacklog = 7\n[namespaces.n]\n")
    settings = load(path, {"server": {"port": 83}})
    assert (settings.server.port, settings.server.backlog) == (83, 7)
    assert list(settings.namespaces) == ["n"]


def test_namespaces_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As JSON, or key by key."""
    monkeypatch.setenv("STREAMGATE_NAMESPACES", '{"n": {"mode": "latest"}}')
    assert load().namespaces["n"].mode == "latest"
    monkeypatch.delenv("STREAMGATE_NAMESPACES")
    monkeypatch.setenv("STREAMGATE_NAMESPACES__N__MODE", "latest")
    assert load().namespaces["n"].mode == "latest"


def test_settings_are_frozen() -> None:
    """Read once, and never changed."""
    settings = load()
    with pytest.raises(ValidationError):
        settings.limits.connections = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings.default_namespace = "x"  # type: ignore[misc]


# Mistakes


@pytest.mark.parametrize(
    ("text", "key", "read", "allowed"),
    [
        ("[server]\nport = 70000", "server.port", "70000", "65535"),
        ('[server]\nport = "http"', "server.port", "'http'", "a whole number"),
        ("[server]\nworkers = 0", "server.workers", "0", "at least 1"),
        ("[limits]\nconnections = 0", "limits.connections", "0", "1"),
        ("[limits]\noutbox_bytes = 1", "limits.outbox_bytes", "1", "4096"),
        ("[client]\nping_seconds = -1", "client.ping_seconds", "-1", "1"),
        ("[redis]\ntimeout_seconds = 2.5", "redis.timeout_seconds", "2.5", "1.9"),
        ('[namespaces.n]\nmode = "table"', "namespaces.n.mode", "'table'", "'log', 'latest' or 'sample'"),
        (
            '[namespaces.n]\npublish = "all"',
            "namespaces.n.publish",
            "'all'",
            "'anonymous', 'authenticated', 'token' or 'nobody'",
        ),
        ("[namespaces.n]\ncoalesce_ms = 60000", "namespaces.n.coalesce_ms", "60000", "1000"),
        ("default_namespace = 5", "default_namespace", "5", "a text"),
        ('[limits]\nconnections = "many"', "limits.connections", "'many'", "a whole number"),
        ("[limits]\ncommands_per_second = 0", "limits.commands_per_second", "0", "more than 0"),
        ("[server]\ndemo_page = 5", "server.demo_page", "5", "true or false"),
        ('[redis]\nkey_prefix = "{a"', "redis.key_prefix", "'{a'", "a text without { and }"),
        (
            '[hooks]\nconnect_url = "ftp://x"',
            "hooks.connect_url",
            "'ftp://x'",
            "begins with http:// or https://",
        ),
        (
            '[server]\nallowed_origins = "https://x"',
            "server.allowed_origins",
            "'https://x'",
            'a list such as ["a", "b"]',
        ),
        ('[namespaces.n]\nnumeric_fields = "a"', "namespaces.n.numeric_fields", "'a'", "a list such as"),
        ("server = 5", "server", "5", "a table of settings"),
    ],
)
def test_a_wrong_value(text: str, key: str, read: str, allowed: str, file: Any) -> None:
    """One line that names the file, the key, what was read and what is allowed."""
    path = file(text)
    said = _mistake(path)
    assert said.startswith(f"{path}: {key}: read {read}; allowed: ")
    assert allowed in said.partition("; allowed: ")[2]
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[server]\nprot = 1", "server.prot"),
        ("[sever]\nport = 1", "sever"),
        ("[namespaces.n]\nhistroy_size = 1", "namespaces.n.histroy_size"),
        ("debug = true", "debug"),
    ],
)
def test_an_unknown_key(text: str, key: str, file: Any) -> None:
    """A misspelt limit is noticed."""
    assert f": {key}: no such setting" in _mistake(file(text))


def test_all_mistakes_at_once(file: Any) -> None:
    """A line each."""
    said = _mistake(file("[server]\nport = 70000\nprot = 1\n[limits]\nconnections = 0\n"))
    assert len(said.splitlines()) == 3
    assert all(key in said for key in ("server.port", "server.prot", "limits.connections"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[namespaces.streamgate]", "namespaces.streamgate"),
        ("[namespaces.Chat]", "namespaces.Chat: read 'Chat'; allowed: a name of lower-case letters"),
        ('[namespaces."a:b"]', "namespaces.a:b"),
        (
            'default_namespace = "gone"',
            "default_namespace: read 'gone'; allowed: one of",
        ),
        (
            "[limits]\npublication_bytes = 1000\n[namespaces.n]\npublication_bytes = 1001",
            "namespaces.n.publication_bytes: read 1001; allowed: at most limits.publication_bytes (1000)",
        ),
        (
            "[presence]\ndead_seconds = 1",
            "presence.dead_seconds: read 1; allowed: at least twice presence.heartbeat_seconds (5)",
        ),
        (
            "[limits]\nmessage_bytes = 1000",
            "limits.message_bytes: read 1000; allowed: at least",
        ),
        (
            "[server]\nport = 9000",
            "server.admin_port: read 9000; allowed: ports other than server.port (9000)",
        ),
        ("[server]\nport = 9003\nworkers = 4", "server.admin_port: read 9000; allowed: ports other than"),
        (
            "[server]\nadmin_port = 65535\nworkers = 2",
            "server.admin_port: read 65535; allowed: at most 65534",
        ),
    ],
)
def test_settings_that_contradict_each_other(text: str, says: str, file: Any) -> None:
    """The key that is wrong is named."""
    assert says in _mistake(file(text))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a directory, no text, no TOML: each says so, with the path."""
    missing = tmp_path / "missing.toml"
    assert _mistake(missing) == f"{missing}: cannot be read: No such file or directory"
    assert "cannot be read" in _mistake(tmp_path)
    broken = tmp_path / "broken.toml"
    broken.write_bytes(b"a = '\xff'")
    assert _mistake(broken).startswith(f"{broken}: not UTF-8 text: ")
    broken.write_text("[server\nport = 1")
    said = _mistake(broken)
    assert said.startswith(f"{broken}: not valid TOML: ")
    assert "line 1" in said


def test_a_mistake_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is named, since the file is innocent."""
    monkeypatch.setenv("STREAMGATE_SERVER__PORT", "http")
    assert _mistake().startswith("environment: STREAMGATE_SERVER__PORT: server.port: read 'http'; allowed: ")


@pytest.mark.parametrize(
    ("name", "value", "key", "allowed"),
    [
        ("NAMESPACES", "{", "namespaces", "a JSON object, or one variable for each key"),
        ("NAMESPACES", '{"n": {"mode": "x"}}', "namespaces.n.mode", "'log', 'latest' or 'sample'"),
        (
            "SERVER__ALLOWED_ORIGINS",
            "https://a,https://b",
            "server.allowed_origins",
            'a JSON list such as ["a","b"]',
        ),
        ("SERVER__ALLOWED_ORIGINS", "[5]", "server.allowed_origins.0", "a text"),
    ],
)
def test_lists_and_tables_in_the_environment(
    name: str, value: str, key: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are JSON; the variable that holds the mistake is named."""
    monkeypatch.setenv(f"STREAMGATE_{name}", value)
    said = _mistake()
    assert said.startswith(f"environment: STREAMGATE_{name}: {key}: read ")
    assert said.endswith(f"; allowed: {allowed}")


def test_a_list_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the documentation has it."""
    monkeypatch.setenv("STREAMGATE_SERVER__ALLOWED_ORIGINS", '["https://a.org","http://localhost:3000"]')
    assert load().server.allowed_origins == ("https://a.org", "http://localhost:3000")


def test_a_contradiction_names_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable, here."""
    monkeypatch.setenv("STREAMGATE_LIMITS__COMMANDS_BURST", "5")
    assert _mistake().startswith(
        "environment: STREAMGATE_LIMITS__COMMANDS_BURST: limits.commands_burst: read 5"
    )


def test_a_mistake_on_the_command_line(file: Any) -> None:
    """The option is named."""
    path = file("")
    assert (
        _mistake(path, {"server": {"admin_port": 70000}})
        == "--admin-port: read 70000; allowed: at most 65535"
    )
    assert _mistake(path, {"redis": {"url": "x"}}).startswith("--redis-url: read a value that is not shown; ")


@pytest.mark.parametrize(
    "origin",
    [
        "www.example.com",
        "https://www.example.com/",
        "https://Example.com",
        "localhost:3000",
        "",
        "https://",
        "*.com",
    ],
)
def test_an_origin_that_could_never_match(origin: str, file: Any) -> None:
    """Browsers send scheme, host and port; whoever writes something else is told."""
    said = _mistake(file(f'[server]\nallowed_origins = ["*", "{origin}"]\n'))
    assert "origins as browsers send them, such as https://www.example.com" in said
    assert said.endswith(f"{origin!r} is none")


@pytest.mark.parametrize(
    "origin", ["*", "null", "https://a.org", "http://localhost:3000", "app://x", "http://[::1]:80"]
)
def test_origins(origin: str, file: Any) -> None:
    """What browsers send, and any."""
    assert load(file(f'[server]\nallowed_origins = ["{origin}"]\n')).server.allowed_origins == (origin,)


@pytest.mark.parametrize(
    "name",
    [
        "STREAMGATE_SERVER__PROT",
        "STREAMGATE_PORT_NUMBER",
        "STREAMGATE_LIMIT__CONNECTIONS",
        "STREAMGATE_SERVER_PORT",
        "STREAMGATE_REDIS_URL",
        "STREAMGATE_",
    ],
)
def test_an_unknown_variable_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt one would otherwise be passed over in silence."""
    monkeypatch.setenv(name, "5")
    assert _mistake().startswith(f"environment: {name}: no such setting")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STREAMGATE_SERVICE_HOST", "10.0.0.1"),
        ("STREAMGATE_SERVICE_PORT", "80"),
        ("STREAMGATE_SERVICE_PORT_HTTP", "80"),
        ("STREAMGATE_PORT", "tcp://10.0.0.1:80"),
        ("STREAMGATE_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("STREAMGATE_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("STREAMGATE_ADMIN_SERVICE_HOST", "10.0.0.1"),
    ],
)
def test_service_links_are_no_settings(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes sets them for a Service of this name."""
    monkeypatch.setenv(name, value)
    load()


# Secrets


@pytest.mark.parametrize("url", ["http://user:hunter2@host", "user:hunter2@host", "hunter2"])
def test_a_wrong_url_is_not_shown(url: str, file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hold a password, wherever it comes from."""
    said = _mistake(file(f'[redis]\nurl = "{url}"\n'))
    assert "redis.url" in said
    assert "rediss://" in said
    assert "hunter2" not in said
    monkeypatch.setenv("STREAMGATE_REDIS__URL", url)
    said = _mistake()
    assert "STREAMGATE_REDIS__URL" in said
    assert "hunter2" not in said


def test_a_url_of_the_wrong_type_is_not_shown(file: Any) -> None:
    """Nor is a table that holds one."""
    assert "hunter2" not in _mistake(file('[redis]\nurl = ["redis://user:hunter2@host"]\n'))
    assert "hunter2" not in _mistake(file('redis = "redis://user:hunter2@host"\n'))


def test_other_secrets_are_not_shown(file: Any) -> None:
    """Keys and hooks' secrets of a wrong type, and URLs with a password."""
    for text in (
        '[tokens]\nhmac_secrets = "hunter2"',
        '[tokens]\nhmac_secrets = [["hunter2"]]',
        'tokens = "hunter2"',
        '[api]\nkeys = "hunter2"',
        '[hooks]\nconnect_url = "ftp://user:hunter2@host"',
    ):
        assert "hunter2" not in _mistake(file(text))


def test_settings_do_not_show_the_password() -> None:
    """Not in a log line of all of them."""
    settings = load(None, {"redis": {"url": "redis://user:hunter2@host"}})
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings.model_dump())


# Namespaces of channels


def test_namespace_of() -> None:
    """By prefix, by default, or none."""
    settings = Settings(default_namespace="chat")
    assert settings.namespace_of("quotes:AAPL") is settings.namespaces["quotes"]
    assert settings.namespace_of("lobby") is settings.namespaces["chat"]
    assert settings.namespace_of("gone:x") is None
    assert settings.namespace_of("streamgate:x") is None
    assert settings.namespace_of("chat:a b") is None
    assert settings.namespace_of(":x") is None
    assert Settings().namespace_of("lobby") is None
