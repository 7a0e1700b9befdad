"""Other documents made from the same record: model card, validation report, deployment record, provenance, BOM, Croissant, SLSA."""
