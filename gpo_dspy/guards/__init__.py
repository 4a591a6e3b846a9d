"""What a rewrite must keep and may not copy: names, placeholders, language, length, examples."""

from gpo_dspy.guards.guard import Guard, make_guards

__all__ = ["Guard", "make_guards"]
