"""Parts of the panel that have a life of their own. Unlike AnomapLib, they know Qt."""
