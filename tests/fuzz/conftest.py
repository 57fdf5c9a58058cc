"""Profiles of the property tests: a quick one by default, `--hypothesis-profile=long` for `make fuzz`."""

from hypothesis import HealthCheck, settings

# No example depends on the machine's speed or on what an earlier run found; nothing is left on disk.
settings.register_profile(
    "quick",
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "long",
    max_examples=5000,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("quick")
