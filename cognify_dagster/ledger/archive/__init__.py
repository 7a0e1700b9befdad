"""Segments of a ledger as static C2SP tlog-tiles directories: written, read, detached and attached again."""
