"""The size of an edit: words changed between two prompts, the difference to show, and clipping.

Words are Unicode words, so that prompts without spaces count properly too; punctuation and
whitespace are no words, cost nothing, and are never lost::

    >>> words("Don't panic, 42!")
    ["Don't", 'panic', '42']
    >>> words_changed("Sort the words.", "Sort all the words alphabetically.")
    2
    >>> [hunk.kind for hunk in word_diff("Sort the words.", "Sort the terms.")]
    ['equal', 'replace']
    >>> clip("Sort them.", "Sort them. Check twice. Then answer in one line.", budget=4)
    'Sort them. Check twice.'
"""

from gpo_dspy.edits._clip import clip
from gpo_dspy.edits._diff import Hunk, HunkKind, word_diff, words_changed
from gpo_dspy.edits._segment import words

__all__ = ["Hunk", "HunkKind", "clip", "word_diff", "words", "words_changed"]
