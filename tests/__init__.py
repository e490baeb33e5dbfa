"""A regular package, so that another distribution's top-level ``tests`` does not take its place."""
