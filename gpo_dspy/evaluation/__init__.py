"""Spending metric calls: run, remember, race, and claim honestly."""
