"""Programs that serve one index to others: `http`, `mcp` and `demo`; `web` is what the three share."""
