"""inferbridge: any client, any inference runtime."""
