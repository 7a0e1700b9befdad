"""Snapshots of more files than one machine should hold at once: in steps, shard range by shard range, and file by file never."""
