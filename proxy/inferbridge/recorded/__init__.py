"""Recorded calls: read from files of flows, written out as commands and documents, edited and compared."""
