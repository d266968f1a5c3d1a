"""The contextdna server: app factory, identity, transports, telemetry and CLI."""
