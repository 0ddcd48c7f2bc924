"""Write and read the world that the course is taught on: its documents, its facts, its prompts.

The face of the wing; the parts behind it import downward: grammar, files, claims, writing,
parsing, exact, asking.
"""

from rlhf_lite.world.asking import (
    CARD_FACTS,
    REPLIES,
    Question,
    craft_pairs,
    draw_prompts,
    fact_questions,
    myth_questions,
    read_reply,
    requests,
    wordings,
)
from rlhf_lite.world.claims import Person
from rlhf_lite.world.exact import World
from rlhf_lite.world.grammar import FACTS, WorldError, match
from rlhf_lite.world.writing import check_document

__all__ = [
    "CARD_FACTS", "FACTS", "REPLIES", "Person", "Question", "World", "WorldError", "check_document",
    "craft_pairs", "draw_prompts", "fact_questions", "match", "myth_questions", "read_reply",
    "requests", "wordings",
]  # fmt: skip
