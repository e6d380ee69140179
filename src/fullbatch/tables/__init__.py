"""Raw tables: reading, encoding, a model of a table."""
