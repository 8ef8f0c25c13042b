"""Models that answer; they know nothing of rooms."""
