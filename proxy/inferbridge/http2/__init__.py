"""What both ends of HTTP/2 have in common: frames, header blocks without a table, and bodies that wait for a window."""
