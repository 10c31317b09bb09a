"""A finished run, opened again: its files, and one arm with its slices for who explains or exports it."""
