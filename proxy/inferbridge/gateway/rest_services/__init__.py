"""gRPC services for APIs that are REST alone: their calls become REST calls of the gateway, the answers messages."""
