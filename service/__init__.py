"""Streamgate: real-time delivery of Redis streams to crowds."""

__version__ = "0.1.0"
