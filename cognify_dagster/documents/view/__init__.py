"""What a document about a package shows, block by block: the one content model of PDF and HTML. Pure."""
