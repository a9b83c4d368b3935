"""What becomes of one call: who may make it, where it goes, how it is translated, and its answer."""
