"""The remote server: Streamable HTTP and HTTP+SSE as one ASGI app, with identity, limits and many workers."""
