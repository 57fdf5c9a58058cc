"""The benchmark: what a delivery, a connection and an idle client cost. `python -m loadtest --help`."""
