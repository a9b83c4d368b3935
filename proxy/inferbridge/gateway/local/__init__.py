"""gRPC services that the gateway answers itself: health and reflection."""
