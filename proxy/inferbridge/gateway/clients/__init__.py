"""Connections of clients: how they come, are served from their sockets, and end."""
