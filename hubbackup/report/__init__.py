"""What is told to people and machines: logs, progress, history, health."""
