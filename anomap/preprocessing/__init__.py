"""From source pixels to model input, and the exact way back."""
