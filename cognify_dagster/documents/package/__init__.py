"""The package: the document about one version that people sign, its findings, and the bundle around it."""
