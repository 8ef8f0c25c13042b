"""Decides and fans out: accounts, rooms, the message queue, feeds, runs, presence."""
