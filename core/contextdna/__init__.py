"""contextdna: one shared, governed memory for a team of LLM agents."""
