"""The command line, `streamgate`: every command, its options, and how its errors are told.

A command's work lives elsewhere and is imported when the command runs, so that `--help` is quick.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from redis.exceptions import RedisError

from service import __version__
from service import config as settings_file
from service.channels import parse
from service.config import Settings
from service.errors import CommandFailed, StreamgateError, Unavailable
from service.tools import mistakes

#: Where `streamgate demo` and `streamgate serve` listen unless told otherwise.
DEFAULT_URL = "ws://127.0.0.1:8000/connection/websocket"

app = typer.Typer(
    name="streamgate",
    help="Real-time delivery of Redis streams to crowds, over WebSockets.",
    epilog="Begin with [bold]streamgate demo[/bold]; [bold]streamgate COMMAND --help[/bold] explains one.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"streamgate {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Real-time delivery of Redis streams to crowds, over WebSockets."""


def _reflow_help() -> None:
    """Typer keeps line breaks of docstrings, which are those of the source."""
    for command in app.registered_commands:
        paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="TOML file with the settings; STREAMGATE_* variables win over it.",
    ),
]
RedisUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The Redis that holds the streams: redis://, rediss:// or unix://. "
        "[dim]Default: redis.url of the settings.[/dim]",
    ),
]


class Failure(StreamgateError):
    """A command cannot do what it was asked; the text is the one line that the user sees."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit code: 0, 1 for a failure, 2 for wrong usage, 130 for Ctrl-C.

    Args:
        arguments: without the program's name; None: those of this process.
    """
    _reflow_help()
    try:
        code = app(
            args=None if arguments is None else list(arguments), standalone_mode=False, prog_name="streamgate"
        )
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except typer.Abort:
        return 128 + signal.SIGINT
    except typer.TyperException as exc:
        if text := mistakes.wrong_usage(exc):  # else: help was shown instead of a missing command
            mistakes.complain(text)
        return exc.exit_code
    except StreamgateError as exc:
        mistakes.complain(str(exc))
        return 1
    except OSError as exc:
        return mistakes.unwritten(exc)
    except Exception as exc:
        if sys.flags.dev_mode:
            raise
        mistakes.complain(f"{type(exc).__name__}: {exc} (a bug: python -X dev -m service shows where)")
        return 1


def _load(path: Path | None, redis_url: str | None = None, **server: object) -> Settings:
    overrides: dict[str, Any] = {"server": {key: value for key, value in server.items() if value is not None}}
    if redis_url is not None:
        overrides["redis"] = {"url": redis_url}
    return settings_file.load(path, {key: value for key, value in overrides.items() if value})


def _run(work: Coroutine[Any, Any, None], settings: Settings) -> None:
    """Run the work; what Redis answers becomes one line."""
    from service.tools.reach import advise, describe, explain

    try:
        asyncio.run(work)
    except (RedisError, Unavailable, CommandFailed) as exc:
        advice = advise(exc)
        text = f"Redis at {describe(settings)}: {explain(exc)}{'; ' if advice else ''}{advice}"
        raise Failure(text) from None


@app.command(
    epilog="Examples:\n\n[dim]streamgate serve --redis-url redis://10.0.0.5:6379/0 --workers 4[/dim]\n\n"
    "[dim]STREAMGATE_SERVER__HOST=0.0.0.0 streamgate serve --config streamgate.toml[/dim]"
)
def serve(
    host: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="Address that clients connect to. [dim]Default: 127.0.0.1.[/dim]"),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            min=0,
            max=65535,
            help="Port that clients connect to. [dim]Default: 8000; 0: any.[/dim]",
        ),
    ] = None,
    redis_url: RedisUrl = None,
    config: Config = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Whole nodes to run, one per core. [dim]Default: 1.[/dim]"),
    ] = None,
    admin_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            min=0,
            max=65535,
            help="Port of /livez, /readyz and /metrics; worker i has this + i. [dim]Default: 9000.[/dim]",
        ),
    ] = None,
) -> int:
    """Run a node: follow Redis streams, deliver to WebSockets.

    What is not given here comes from the STREAMGATE_* environment, then from the file, then from
    the defaults. SIGTERM (and Ctrl-C) drains: sessions are closed over some seconds, and move on.
    """
    settings = _load(config, redis_url, host=host, port=port, workers=workers, admin_port=admin_port)
    from service import server

    return server.run(settings)


@app.command(epilog="Examples:\n\n[dim]streamgate demo --port 8080[/dim]")
def demo(
    port: Annotated[
        int,
        typer.Option(metavar="PORT", min=0, max=65535, help="Port of the page; a free one if it is taken."),
    ] = 8000,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="Address of the page; 0.0.0.0 shows it to your network.")
    ] = "127.0.0.1",
    redis_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Use this Redis. [dim]Default: one of its own, in memory.[/dim]"),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the node's log.")] = False,
) -> int:
    """Show it: a Redis, a node, simulated feeds, and a page to look at.

    Everything listens on this machine only and ends with Ctrl-C; nothing is left behind.
    """
    from service.tools import demo as show

    return show.run(host=host, port=port, redis_url=redis_url, verbose=verbose)


@app.command(
    epilog="Examples:\n\n[dim]streamgate publish quotes:AAPL '{\"price\":189.3}'[/dim]\n\n"
    '[dim]echo \'{"user":"ops","text":"hello"}\' | streamgate publish chat:lobby -[/dim]'
)
def publish(
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="Where to, such as quotes:AAPL.")],
    payload: Annotated[str, typer.Argument(metavar="JSON", help="What; - reads it from standard input.")],
    redis_url: RedisUrl = None,
    config: Config = None,
) -> None:
    """Append one publication to a channel's stream, as a producer would, and print its id.

    It is a plain XADD of one field named data, trimmed to the history of the channel's namespace.
    """
    settings = _load(config, redis_url)
    from service.tools.publish import append

    data = sys.stdin.buffer.read() if payload == "-" else payload.encode(errors="surrogateescape")
    _run(append(channel, data.strip(), settings), settings)


@app.command(
    epilog="Examples:\n\n[dim]streamgate subscribe quotes:AAPL scores:live[/dim]\n\n"
    "[dim]streamgate subscribe quotes:AAPL --count 10 --json | jq .data.price[/dim]\n\n"
    '[dim]streamgate subscribe chat:lobby --token "$(streamgate token ann)"[/dim]'
)
def subscribe(
    channel: Annotated[list[str], typer.Argument(metavar="CHANNEL…", help="What to follow.")],
    url: Annotated[str, typer.Option(metavar="URL", help="The node's WebSocket.")] = DEFAULT_URL,
    token: Annotated[
        str,
        typer.Option(
            metavar="TOKEN",
            help="A connect token, such as streamgate token makes. [dim]Default: none, as anybody.[/dim]",
            show_default=False,
        ),
    ] = "",
    whole: Annotated[
        bool, typer.Option("--json", help="Print whole publications: channel, data, offset, tags, info.")
    ] = False,
    count: Annotated[
        int,
        typer.Option("--count", "-n", metavar="N", min=0, help="End after so many publications; 0: never."),
    ] = 0,
) -> None:
    """Connect to a node as a client and print what arrives: CHANNEL, tab, JSON.

    After a cut it reconnects and goes on where it was. What happens on the way, and whether
    anything was missed, is told on standard error.
    """
    for name in dict.fromkeys(channel):
        try:
            parse(name)
        except ValueError as exc:
            raise Failure(f"{name!r} is no channel: {exc}") from None
    from service.tools.subscribe import follow

    asyncio.run(follow(url, list(dict.fromkeys(channel)), token=token, whole=whole, count=count))


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise Failure(f"--speed: read {text!r}; allowed: a number above 0, such as 1 or 10, or max")
    return speed


@app.command(
    epilog="Examples:\n\n[dim]streamgate replay quotes.csv.gz --speed 10[/dim]\n\n"
    "[dim]streamgate replay worldcup-2022.json --speed 120[/dim]\n\n"
    "[dim]streamgate replay events.jsonl --channel 'chat:{room}' --speed max[/dim]"
)
def replay(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="CSV or JSON lines with ts_ms, or a match file; also with .gz. "
            "- is standard input, CSV or JSON lines.",
        ),
    ],
    speed: Annotated[
        str, typer.Option(metavar="N|max", help="So many times faster than recorded, or as fast as Redis.")
    ] = "1",
    channel: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help="Channel of a row, from its fields: 'quotes:{symbol}'. [dim]Default: by the columns: "
            "quotes, trades, chat or scores.[/dim]",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=0, help="Rows at most; 0: all.")] = 0,
    redis_url: RedisUrl = None,
    config: Config = None,
) -> None:
    """Write a recorded feed to streams by XADD, with its original spacing.

    Rows keep their order; the first is written at once. Streams are trimmed to the history of
    their namespaces.
    """
    settings = _load(config, redis_url)
    pace = _speed(speed)
    from service.tools.replay import play

    _run(play(file, settings, speed=pace, template=channel, limit=limit), settings)


@app.command(
    epilog="Examples:\n\n[dim]streamgate token ann --expires 7d --allow 'chat:*=pub,hst'[/dim]\n\n"
    '[dim]streamgate token ann --channel chat:lobby --info \'{"name":"Ann"}\'[/dim]'
)
def token(
    user: Annotated[str, typer.Argument(metavar="USER", help="Whose; '' for anybody.")],
    channel: Annotated[
        str | None,
        typer.Option(
            metavar="CHANNEL",
            help="Make a subscription token for it. [dim]Default: a connect token.[/dim]",
        ),
    ] = None,
    expires: Annotated[
        str, typer.Option(metavar="TIME", help="Good for so long: 90s, 30m, 1h, 7d, or never.")
    ] = "1h",
    info: Annotated[str | None, typer.Option(metavar="JSON", help="Shown to others beside the user.")] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHANNEL=ACTIONS",
            help="Grant some of sub, pub, hst, prs, mod: 'chat:*=pub,mod'; with --channel without its name: "
            "'pub'. May be given several times.",
        ),
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Holds the secret that signs. [dim]Default: the first of tokens.hmac_secrets, then of "
            "tokens.hmac_secret_files.[/dim]",
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Make a token for development, signed with HS256, and print it.

    In production the application makes them, as it knows who its users are.
    """
    from service.tools.token import make

    typer.echo(
        make(
            _load(config).tokens,
            user,
            channel=channel,
            expires=expires,
            info=info,
            allow=allow or (),
            secret_file=secret_file,
        )
    )


@app.command(epilog="Examples:\n\n[dim]streamgate check --config streamgate.toml[/dim]")
def check(config: Config = None, redis_url: RedisUrl = None) -> int:
    """Check the settings, and the keys and the Redis they name, and say what to fix.

    Tries every kind of command a node needs, on keys that are deleted again.
    Exit code 1 where something must be fixed.
    """
    from rich.console import Console

    from service.tools.check import check_jwks, check_redis, check_settings, render

    settings = _load(config, redis_url)
    findings = check_settings(settings)
    findings += asyncio.run(check_jwks(settings))
    findings += asyncio.run(check_redis(settings))
    return render(findings, Console(highlight=False, soft_wrap=True))


if __name__ == "__main__":
    sys.exit(main())
