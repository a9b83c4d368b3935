"""Skeletons of specs: what a .proto file, a server or an OpenAPI document says, and what a person must still decide."""
