"""The demo: a credit default model from raw data to a scoring service behind a signed release."""
