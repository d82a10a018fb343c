"""What crosses HTTP: the shapes of the Managed Agents API, and how they are made from our own types."""
