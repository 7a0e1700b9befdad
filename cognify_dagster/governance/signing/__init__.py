"""Keys, statements and signatures, and the acts that people sign."""
