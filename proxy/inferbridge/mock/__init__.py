"""A runtime that speaks the APIs of its spec and answers what follows from the request: for client development."""
