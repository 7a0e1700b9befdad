"""Requests that nobody answered: the event `request.overdue` for other systems, one digest mail a day for people.

A reminder decides nothing: that time passed approves, rejects and releases nothing.
"""
