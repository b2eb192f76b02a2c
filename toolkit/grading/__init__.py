"""The autograder: a student's code runs in a sandboxed process of its own; expected values never enter that process."""
