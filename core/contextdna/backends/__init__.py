"""One product per file: it stores, and knows no rules."""
