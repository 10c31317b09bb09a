"""The sections of the report, a module each: built from the run alone, None where the run has nothing for it."""
