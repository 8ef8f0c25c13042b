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
events_pruned = Counter("chat_events_pruned", "Events older than their conversation keeps them.", registry=registry)
queue_depth = Gauge("chat_queue_depth", "Drafts waiting for a transaction.", registry=registry)
behind = Gauge("chat_connections_behind", "Sockets fed from the log because they read slowly.", registry=registry)
runs = Counter("chat_runs", "Runs by how they ended.", ["status"], registry=registry)
delivery_attempts = Counter(
    "chat_delivery_attempts", "Attempts to deliver an event, by reader of the log and outcome.", ["reader", "outcome"],
    registry=registry,
)  # fmt: skip
delivery_lag_events = Gauge(
    "chat_delivery_lag_events", "Events behind the cursors of a reader.", ["reader"], registry=registry
)
delivery_lag_seconds = Gauge(
    "chat_delivery_lag_seconds", "Age of the oldest event behind a cursor of a reader.", ["reader"], registry=registry
)
dead_letters = Gauge(
    "chat_dead_letters", "Events that a reader gave up and nobody has retried or deleted.", ["reader"],
    registry=registry,
)  # fmt: skip
requests = Histogram(
    "chat_http_request_seconds", "HTTP requests by route and status.", ["route", "method", "status"],
    buckets=FAST_BUCKETS, registry=registry,
)  # fmt: skip
loop_lag_seconds = Histogram(
    "chat_loop_lag_seconds", "How late the event loop woke up, ten looks a second.", buckets=FAST_BUCKETS,
    registry=registry,
)  # fmt: skip
tasks = Gauge("chat_tasks", "Tasks of the event loop.", registry=registry)
presence_shed = Gauge(
    "chat_presence_shed", "1 while comings and goings are not told: too much else to do, or off.", registry=registry
)
presence_nodes = Gauge("chat_presence_nodes", "Other nodes whose presence this node knows.", registry=registry)
bus_healthy = Gauge("chat_bus_healthy", "1 while a probe finds its way through the bus.", registry=registry)
bus_topics = Gauge("chat_bus_topics", "Topics this node listens to.", registry=registry)
bus_sent = Counter("chat_bus_messages_sent", "Messages to other nodes that Redis took.", registry=registry)
bus_received = Counter("chat_bus_messages_received", "Messages from other nodes.", registry=registry)
bus_lost = Counter(
    "chat_bus_messages_lost",
    "Messages that did not get out: shed or full (too many waited), late, unconfirmed (no answer), refused.",
    ["reason"],
    registry=registry,
)
bus_ignored = Counter(
    "chat_bus_messages_ignored",
    "Messages of other nodes that this version does not understand: version, kind or malformed.",
    ["reason"],
    registry=registry,
)
bus_disconnects = Counter("chat_bus_disconnects", "Connections to Redis that failed or ended.", registry=registry)
bus_gaps = Counter("chat_bus_gaps", "How often heads were compared since notices may be lost.", registry=registry)
bus_round_trip_seconds = Histogram(
    "chat_bus_round_trip_seconds", "A probe through the bus and back.", buckets=FAST_BUCKETS, registry=registry
)


def exposition() -> bytes:
    """Everything in Prometheus' text format."""
    return generate_latest(registry)
