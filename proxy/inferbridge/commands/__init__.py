"""Commands that have a module of their own; like all commands they import what they need when they run."""

FAILURE = 1
BAD_INPUT = 100
"""Exit code for problems found in the user's input."""
