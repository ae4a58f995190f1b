"""What the adapters for HTTP clients share: reading requests and responses, and when to send again. No I/O."""
