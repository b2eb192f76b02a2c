"""Reference solutions: one file in percent format for each exercise, which is generated from it."""
