"""Calls of the gateway as flows of mitmproxy, for its interfaces, its files and other people's addons."""
