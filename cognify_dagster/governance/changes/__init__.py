"""Predetermined change control: approved plans, and whether a new version stays within one."""
