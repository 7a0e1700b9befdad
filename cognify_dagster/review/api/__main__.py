"""Prints the OpenAPI document: `python -m cognify_dagster.review.api > docs/openapi.json`."""

import sys

from cognify_dagster.review.api.app import openapi_text

sys.stdout.write(openapi_text())
