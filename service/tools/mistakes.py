"""How the command line tells what went wrong: one line, on standard error, in the user's words."""

from __future__ import annotations

import os
import sys

import typer
from pydantic import ValidationError

from service import config


def wrong_usage(exc: typer.TyperException) -> str:
    """What is wrong with the words typed, and whose help explains them; "" where help was shown already."""
    context = getattr(exc, "ctx", None)
    command = "streamgate" if context is None else context.command_path
    text = exc.format_message().rstrip(".")
    if isinstance(exc.__cause__, ValidationError):
        (error, *_) = exc.__cause__.errors()
        text = text.removesuffix(error["msg"]) + f"read {error['input']!r}; "
        text += f"allowed: {config.allowed(error)}"
    return text and f"{text} ({command} --help explains)"


def unwritten(exc: OSError) -> int:
    """Tell of an error of the system, and return the exit code.

    Without a file's name it is standard output that cannot be written.
    """
    try:
        sys.stdout.flush()
    except OSError:  # what is still buffered must not complain again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(exc, BrokenPipeError):  # whoever read has enough (`… | head`)
        return 0
    complain(f"{exc.filename or 'standard output'}: {exc.strerror or exc}")
    return 1


def complain(text: str) -> None:
    """Lines of our own on standard error."""
    for line in text.splitlines():
        sys.stderr.write(f"streamgate: {line}\n")
