"""What `/metrics` shows. Units are in the names; labels hold words of ours, never anything a person wrote."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

registry = CollectorRegistry()
ProcessCollector(registry=registry)
PlatformCollector(registry=registry)

FAST_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

connections = Gauge("chat_connections", "Open sockets with an identity.", registry=registry)
feeds = Gauge("chat_feeds", "Conversations watched by this node.", registry=registry)
frames_in = Counter("chat_frames_received", "Client frames by type.", ["type"], registry=registry)
frames_refused = Counter(
    "chat_frames_refused", "Client frames answered with an error, by code.", ["code"], registry=registry
)
messages_committed = Counter("chat_events_committed", "Events appended to the log.", registry=registry)
batch_size = Histogram(
    "chat_commit_batch_size",
    "Drafts in one transaction.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    registry=registry,
)
commit_seconds = Histogram(
    "chat_commit_seconds", "One transaction of the log.", buckets=FAST_BUCKETS, registry=registry
)
fanout_seconds = Histogram(
    "chat_fanout_seconds", "Writing one tick of a feed to all its listeners.", buckets=FAST_BUCKETS, registry=registry
)
feed_repairs = Counter("chat_feed_repairs", "Reads of the log because a feed had a hole.", registry=registry)
queue_depth = Gauge("chat_queue_depth", "Drafts waiting for a transaction.", registry=registry)
behind = Gauge("chat_connections_behind", "Sockets fed from the log because they read slowly.", registry=registry)
runs = Counter("chat_runs", "Runs by how they ended.", ["status"], registry=registry)
requests = Histogram(
    "chat_http_request_seconds", "HTTP requests by route and status.", ["route", "method", "status"],
    buckets=FAST_BUCKETS, registry=registry,
)  # fmt: skip
loop_lag_seconds = Gauge(
    "chat_loop_lag_seconds", "How late the event loop woke up at the last look.", registry=registry
)


def exposition() -> bytes:
    """Everything in Prometheus' text format."""
    return generate_latest(registry)
