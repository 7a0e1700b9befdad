"""The release decision, the grant, and whether what is live still stands."""
