"""People, their keys and roles, and what changes who may do what."""
