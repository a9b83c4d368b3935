"""Calls of any endpoint from the command line: JSON in, JSON out, whatever the runtime speaks."""
