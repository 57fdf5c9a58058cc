"""Replayed and simulated quotes, scores and chat."""
