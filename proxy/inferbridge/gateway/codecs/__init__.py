"""Bytes of a client in, events out, and answers back: HTTP/1.1 and HTTP/2 without a socket."""
