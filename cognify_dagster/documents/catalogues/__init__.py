"""The catalogues beside the frameworks: objectives of metrics, retention terms, texts that people attest."""
