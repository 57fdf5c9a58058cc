"""Scripts that Redis runs; each file tells its keys and arguments.

What a package keeps beside its own code is read by `Script.of(__name__, "name.lua")`.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import NamedTuple


class Script(NamedTuple):
    """A script: its text, and the hash by which Redis finds it once it has seen the text."""

    text: bytes
    sha: bytes

    @classmethod
    def of(cls, package: str, name: str) -> Script:
        """Read it from a package's directory."""
        text = files(package).joinpath(name).read_bytes()
        return cls(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


#: Redis caches scripts by their text, so `EVAL` costs a hash of it and works on every node at once.
EPOCH = Script.of(__name__, "epoch.lua").text
