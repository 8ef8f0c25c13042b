"""Sockets and HTTP in and out."""
