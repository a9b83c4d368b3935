"""The client side of the proxy: connections and codecs, and what becomes of each call.

    clients ─▶ codecs ────────────────────────────────┐
                                                      ├─▶ application, record, …
    build ─▶ service ─┬─▶ connect ─▶ calls ─▶ records ┤
                      └─▶ rest_services, local ───────┘

`application` is the seam in the middle: codecs and connections know nothing of routes and bridges, and calls nothing
of bytes. What stands in this folder itself is shared by all of it, but for `service` and `build`, which put the work
together.
"""
