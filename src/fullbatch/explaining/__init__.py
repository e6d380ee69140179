"""What a model does with its columns, and how well: figures, tables and a page of a fitted model on some rows."""
