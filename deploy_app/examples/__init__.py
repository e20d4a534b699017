"""Applications that show how to use anomap's operators before operators of others."""
