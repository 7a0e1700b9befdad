"""How fast documents are made: coverage of all frameworks, the PDF of a package, its HTML, its seal."""

MODULES = ("rendering", "coverage")
