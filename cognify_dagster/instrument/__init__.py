"""Adapters for what teams already have: the Python SDK, Hugging Face, distributed checkpoints, MLflow and other trackers.

Nothing heavy (torch, transformers, mlflow) is imported before it is used, and no module here knows Dagster.
"""
