"""Training of generators and encoders."""
