"""The printed package: PDF/A-3a and PDF/UA-1 by typst, and the seal of the final copy."""
