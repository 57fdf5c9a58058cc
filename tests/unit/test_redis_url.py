"""redis_url: mistakes in a URL are told when the settings are read, and nothing of it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.config import Settings, load
from service.errors import ConfigError
from service.streams import connect

pytestmark = pytest.mark.usefixtures("clean_environment")


def _load(folder: Path, url: str) -> Settings:
    path = folder / "streamgate.toml"
    path.write_text(f'[redis]\nurl = "{url}"\n')
    return load(path)


def _mistake(folder: Path, url: str) -> str:
    with pytest.raises(ConfigError) as info:
        _load(folder, url)
    return str(info.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:abc",
        "redis://127.0.0.1:99999",
        "redis://[::1",
        "redis://127.0.0.1/first",
        "http://127.0.0.1",
    ],
)
def test_a_wrong_url(url: str, tmp_path: Path) -> None:
    """Told before anybody connects."""
    assert "redis://" in _mistake(tmp_path, url).partition("; allowed: a URL ")[2]


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("redis://:hunter2@host/?foo=bar", "db, client_name"),
        ("redis://:hunter2@host/?retry=3", "db, client_name"),
        ("redis://:hunter2@host/?protocol=2", "db, client_name"),
        ("redis://:hunter2@host/?connection_class=x", "db, client_name"),
        ("redis://:hunter2@host/?health_check_interval=abc", "db, client_name"),
        ("redis://:hunter2@host/?ssl_cert_reqs=none", "db, client_name"),
        ("redis://:hunter2@host/?db=abc", "db with a number"),
        ("redis://:hunter2@host/abc", "number of a database"),
        ("redis://:hunter2@host:abc", "port"),
        ("unix:///run/redis.sock?db=hunter2", "db with a number"),
        ("unix:///run/redis.sock?ssl_cert_reqs=hunter2", "db, client_name"),
        ("rediss://:hunter2@host/?ssl_min_version=TLSv1_3", "ssl_ca_certs"),
        ("rediss://:hunter2@host/?ssl_cert_reqs=xyz", "ssl_cert_reqs of none, optional, required"),
        ("rediss://:hunter2@host/?ssl_check_hostname=", "ssl_check_hostname of true, false"),
        ("rediss://:hunter2@host/?ssl_ca_certs=/nope.crt", "there is no /nope.crt"),
        ("rediss://:hunter2@host/?ssl_certfile=/nope.crt", "there is no /nope.crt"),
    ],
)
def test_options_of_a_url(url: str, allowed: str, tmp_path: Path) -> None:
    """Mistakes are told at the start; nothing of the rest is shown."""
    said = _mistake(tmp_path, url)
    assert "redis.url" in said
    assert allowed in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "redis://user:secret@[::1]:6379/3?client_name=streamgate",
        "redis:///?db=3",
        "rediss://host/0?ssl_cert_reqs=none&ssl_check_hostname=false",
        f"rediss://host?ssl_ca_certs={__file__}&ssl_certfile={__file__}&ssl_keyfile={__file__}&ssl_password=x",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_urls_that_can_be_used(url: str, tmp_path: Path) -> None:
    """And redis-py makes a connection of each."""
    settings = _load(tmp_path, url)
    assert connect._pool(settings.redis).make_connection() is not None  # type: ignore[no-untyped-call]
