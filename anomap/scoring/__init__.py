"""Residual scores: what the generator could not reproduce."""
