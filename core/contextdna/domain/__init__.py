"""The rules: access, memories, retrieval, delegation, audit. Knows no product."""
