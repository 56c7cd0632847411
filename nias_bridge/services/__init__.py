"""The use cases, as plain functions that are handed what they need."""
