"""The page: claims, charts, and the words around them."""
