"""Tells other nodes, at most once."""
