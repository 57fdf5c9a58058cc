"""Scripts that Redis runs; each file tells its keys and arguments."""

from importlib.resources import files

#: Redis caches scripts by their text, so `EVAL` costs a hash of it and works on every node at once.
EPOCH = files(__name__).joinpath("epoch.lua").read_bytes()
