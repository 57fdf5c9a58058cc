"""One client: the protocol's state machine."""
