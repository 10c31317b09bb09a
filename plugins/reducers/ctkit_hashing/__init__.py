"""Hashes of slices and their distances, for reducers, methods and tasks. Imports no torch."""
