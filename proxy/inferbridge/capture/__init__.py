"""Payload capture: what calls said on both sides, decoded, without what must not be seen, for files and collectors."""
