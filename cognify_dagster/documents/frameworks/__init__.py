"""Frameworks: regulations as data files, shipped ones and the organisation's own."""
