"""Generator, discriminator and encoder."""
