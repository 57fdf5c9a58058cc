"""A thin client of the JSON protocol, for scripts, tests and the command line."""

from service.client.client import Client

__all__ = ["Client"]
