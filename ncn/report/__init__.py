"""The page: charts, tables, and the words around them."""
