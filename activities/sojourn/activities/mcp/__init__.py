"""MCP servers as tools. Only `connection`, `http` and what uses them need the package `mcp`."""
