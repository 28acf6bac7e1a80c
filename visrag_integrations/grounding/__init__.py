"""Evidence checked against its page: where it stands, how much of it does, and a verdict.

`ground(answer)` is all that is needed; the evidence of the answer it gives has a `grounding`. No model is asked: the
words of the evidence are looked for among the words of its page (its text layer, or what OCR read).

The way of a piece of evidence, by file:

    grounded_evidence which page it is about
    check             from text and page to the verdict, step by step
      folding, page_letters, claim      both as letters; the evidence as tokens with weights
      signs, page_signs, spellings      how numbers are marked as negative, and money is written
      passes                            where the tokens stand on the page:
        common_runs, nearby, gaps         the passes; token_search looks for one token
      fragments                         what stands where the evidence has it
      verdicts, contradictions          how much that is, and what may not differ
      cells, neighbours                 which value belongs to which label, by the boxes of the words
      boxes                             outlines
    thresholds        every number of these, with its reason

docs/grounding.md carries one claim through all of it.
"""

from visrag_integrations.grounding.check import find_passage, ground_text
from visrag_integrations.grounding.grounded_evidence import ground, ground_evidence, grounding_dict
from visrag_integrations.grounding.outlines import outlined
from visrag_integrations.grounding.regions import similar_regions
from visrag_integrations.grounding.remembered_words import remember_words
from visrag_integrations.grounding.thresholds import THRESHOLDS

__all__ = [
    "MAX_CHARACTERS",
    "find_passage",
    "ground",
    "ground_evidence",
    "ground_text",
    "grounding_dict",
    "outlined",
    "remember_words",
    "similar_regions",
]

MAX_CHARACTERS = THRESHOLDS.max_characters
"""Characters of a piece of evidence that are looked at; a longer one is never called supported."""
