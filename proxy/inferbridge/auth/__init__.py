"""Who calls, what they may call, and as whom the gateway calls runtimes.

    headers, certificate ─▶ Presented ─▶ Chain of authenticators ─▶ Identity ─▶ Authorizer (rules) ─▶ Permit
                                                                      └──────▶ outgoing credentials of an upstream

Values and rules; what a client is answered is the gateway's to say (`gateway/calls/guard.py`). Nothing here imports it.
"""
