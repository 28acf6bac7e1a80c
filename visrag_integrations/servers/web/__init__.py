"""What the HTTP and the MCP server share: who may ask, how much, for how long, and what an answer may tell.

Plain ASGI and uvicorn; no web framework.
"""
