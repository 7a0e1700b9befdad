"""Backup, restore, replay, copies and dumps, and what is refused after a rollback."""
