"""The stages of a run, in the order of the data's way; each has one kind of thing in and one out."""
