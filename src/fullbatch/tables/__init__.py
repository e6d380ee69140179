"""Raw tables: reading, encoding, training on a table, a model of it."""
