"""`python -m server` is `chat-studio`."""

from server.cli import main

main()
