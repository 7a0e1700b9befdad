"""Hashing many files fast, and knowing which need not be read again."""
