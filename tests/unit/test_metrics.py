"""metrics: every instrument is the service's own, explained, and without labels that grow."""

from prometheus_client import generate_latest
from prometheus_client.core import Metric

from service.metrics import Metrics

_FOREIGN = ("process_", "python_")
_LABELS = {
    "hook",
    "command",
    *("transport", "code", "reason", "method", "namespace"),
    *("result", "kind", "command", "link", "version"),
}


def _instruments(metrics: Metrics) -> list[Metric]:
    return [family for family in metrics.registry.collect() if not family.name.startswith(_FOREIGN)]


def test_names() -> None:
    """One prefix, a text for each."""
    found = _instruments(Metrics())
    assert len(found) > 30
    assert all(family.name.startswith("streamgate_") for family in found)
    assert all(family.documentation.endswith(".") for family in found)


def test_labels_are_bounded() -> None:
    """None by channel, user or client."""
    metrics = Metrics()
    for attribute in vars(metrics).values():
        assert set(getattr(attribute, "_labelnames", ())) <= _LABELS


def test_each_node_has_its_own() -> None:
    """Two in one process do not count for each other."""
    one, other = Metrics(), Metrics()
    one.published["chat"].inc()
    assert one.registry.get_sample_value("streamgate_published_total", {"namespace": "chat"}) == 1
    assert other.registry.get_sample_value("streamgate_published_total", {"namespace": "chat"}) is None


def test_the_process_is_measured() -> None:
    """What an operator looks at first is there, in the format that is scraped."""
    text = generate_latest(Metrics().registry).decode()
    for name in (
        "process_resident_memory_bytes",
        "python_gc_objects_collected_total",
        "streamgate_build_info",
    ):
        assert f"\n{name}" in text
