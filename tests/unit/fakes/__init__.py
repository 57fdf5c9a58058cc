"""What stands in for the world in unit tests: time, sockets, feeds, wire formats, transports."""
