"""The life of the proxy's processes: settings that change while it serves, workers, and how all of them stop."""
