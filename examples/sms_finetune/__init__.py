"""The transformer example: MiniLM fine-tuned to recognise spam in text messages, with leakage between the splits caught first."""
