"""The networks that the built-in methods train, with their losses."""
