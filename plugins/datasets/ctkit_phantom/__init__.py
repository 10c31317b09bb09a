"""The synthetic patient: a body, scans of it, and labelled slices, for the data set and the tasks of phantoms."""
