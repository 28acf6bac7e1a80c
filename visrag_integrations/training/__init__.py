"""Training: the published recipes of the retriever, the reader and the agent."""
