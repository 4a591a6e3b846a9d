"""What a run shows a person."""

from gpo_dspy.report.summary import diff_text, show_result

__all__ = ["diff_text", "show_result"]
