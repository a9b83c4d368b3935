"""What is told of a running proxy: metrics, health, versions and settings, on a port of its own."""
