"""The pages: one module a page or a group of pages that belong together."""
