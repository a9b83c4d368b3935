"""Every gRPC method as plain JSON over HTTP: the Connect protocol, and streams as curl would have them."""
