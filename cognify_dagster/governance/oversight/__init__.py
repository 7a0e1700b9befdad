"""What people do about a model over its life: classify, find, block, review, and who is told."""
