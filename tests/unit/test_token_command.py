"""`streamgate token`: what it prints a node accepts; what it cannot make it says why."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from pydantic import SecretStr

from service import cli
from service.identity.identity import Capability
from service.identity.tokens import TokenVerifier
from service.metrics import Metrics
from service.sections import TokenSettings
from tests.unit.fakes.keypairs import SECRET


@pytest.fixture(autouse=True)
def _environment(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One secret, as the documentation says to give it."""
    monkeypatch.setenv("STREAMGATE_TOKENS__HMAC_SECRETS", json.dumps([SECRET, "another secret, for later"]))


def _made(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["token", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    return out.strip()


def _fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["token", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("streamgate: ").strip()


def _verifier(secret: str = SECRET, **settings: Any) -> TokenVerifier:
    return TokenVerifier(TokenSettings(hmac_secrets=(SecretStr(secret),), **settings), Metrics())


def test_a_connect_token(capsys: pytest.CaptureFixture[str]) -> None:
    """It is good for an hour, and signed by the first secret."""
    identity = _verifier().connect(_made(capsys, "ann"))
    assert identity.user == "ann"
    assert identity.expires_at is not None
    assert identity.issued_at is not None
    assert identity.expires_at - identity.issued_at == 3600
    assert abs(identity.issued_at - time.time()) < 60
    assert (identity.info, identity.capabilities) == (None, ())


def test_what_it_grants(capsys: pytest.CaptureFixture[str]) -> None:
    """A star stands for all that begin so; the option may be given several times."""
    allow = ("--allow", "chat:*=pub,mod", "--allow", "a=b:c=hst")
    identity = _verifier().connect(_made(capsys, "ann", "--info", '{"name": "Ann"}', *allow))
    assert identity.info == b'{"name":"Ann"}'
    assert identity.capabilities == (
        Capability(("chat:*",), frozenset(("publish", "moderate"))),
        Capability(("a=b:c",), frozenset(("history",))),
    )


def test_a_subscription_token(capsys: pytest.CaptureFixture[str]) -> None:
    """For one user and channel."""
    token = _made(capsys, "ann", "--channel", "chat:lobby", "--allow", "pub,hst", "--allow", "prs")
    grant = _verifier().subscription(token, "ann", "chat:lobby")
    assert grant.actions == {"subscribe", "publish", "history", "presence"}
    token = _made(capsys, "", "--channel", "chat:lobby")
    assert _verifier().subscription(token, "", "chat:lobby").actions == {"subscribe", "history", "presence"}


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604_800)])
def test_expiry(capsys: pytest.CaptureFixture[str], text: str, seconds: int) -> None:
    """In any unit."""
    identity = _verifier().connect(_made(capsys, "ann", "--expires", text))
    assert (identity.expires_at or 0) - (identity.issued_at or 0) == seconds


def test_no_expiry(capsys: pytest.CaptureFixture[str]) -> None:
    """Where that is asked for."""
    assert _verifier().connect(_made(capsys, "ann", "--expires", "never")).expires_at is None


def test_audience_and_issuer_of_the_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them the node would refuse it."""
    monkeypatch.setenv("STREAMGATE_TOKENS__AUDIENCE", "chat")
    monkeypatch.setenv("STREAMGATE_TOKENS__ISSUER", "me")
    token = _made(capsys, "ann")
    assert _verifier(audience="chat", issuer="me").connect(token).user == "ann"


def test_where_the_secret_comes_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The option, then the settings, then a file that they name."""
    path = tmp_path / "secret"
    path.write_text("the secret of a file\n")
    token = _made(capsys, "ann", "--secret-file", str(path))
    assert _verifier("the secret of a file").connect(token).user == "ann"
    config = tmp_path / "streamgate.toml"
    config.write_text(f'[tokens]\nhmac_secret_files = ["{path}"]\n')
    assert _verifier().connect(_made(capsys, "ann", "--config", str(config))).user == "ann"
    monkeypatch.delenv("STREAMGATE_TOKENS__HMAC_SECRETS")
    token = _made(capsys, "ann", "--config", str(config))
    assert _verifier("the secret of a file").connect(token).user == "ann"


def test_other_libraries_read_it(capsys: pytest.CaptureFixture[str]) -> None:
    """It is a JWT like any other."""
    assert jwt.decode(_made(capsys, "ann"), SECRET, ["HS256"])["sub"] == "ann"


def test_without_a_secret(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """How to give one is told."""
    monkeypatch.delenv("STREAMGATE_TOKENS__HMAC_SECRETS")
    text = _fails(capsys, "ann")
    assert text.startswith("no secret to sign with; give one by --secret-file FILE")
    assert "STREAMGATE_TOKENS__HMAC_SECRETS='[\"…\"]'" in text
    assert "openssl rand -hex 32" in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--expires", "1w"], "--expires: read '1w'; allowed: a number with s, m, h or d (1h), or never"),
        (["--expires", "-1h"], "--expires: read '-1h'"),
        (["--info", "Ann"], "--info: not valid JSON"),
        (["--channel", "a b"], "--channel: read 'a b'; allowed: a channel name has no ' '"),
        (["--allow", "pub"], "--allow: read 'pub'; allowed: CHANNEL=ACTION,…"),
        (["--allow", "chat:*=fly"], "--allow: allow must be a list of some of sub, pub, hst, prs, mod"),
        (["--allow", "a*b=pub"], "a channel name has no '*'"),
        (["--channel", "c", "--allow", "c=pub"], "--allow: allow must be a list of some of sub"),
        (
            ["--secret-file", "/does/not/exist"],
            "--secret-file: /does/not/exist: cannot be read: No such file",
        ),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: list[str], text: str) -> None:
    """One line names the option and what is allowed."""
    assert text in _fails(capsys, "ann", *arguments)


def test_a_short_secret(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A node would refuse it; it is not shown."""
    path = tmp_path / "secret"
    path.write_text("short")
    text = _fails(capsys, "ann", "--secret-file", str(path))
    assert text.startswith(f"--secret-file: {path}: a secret of 5 bytes can be guessed")
