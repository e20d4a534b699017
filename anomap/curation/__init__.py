"""Curation: every image of a repository with its scores, in tables that can be ranked, filtered and resumed."""
