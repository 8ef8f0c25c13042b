"""Chat Studio: a self-hosted, real-time chat studio where people and AI models share rooms."""

__version__ = "0.1.0"
