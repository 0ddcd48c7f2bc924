"""Write and read the world that the course is taught on: its documents, its facts, its prompts.

The face of the wing; the parts behind it import downward: grammar, files, writing,
reading, asking.
"""

from rlhf_lite.world.asking import LEAST_EXPOSURE, draw_prompts
from rlhf_lite.world.grammar import FACTS, WorldError, match
from rlhf_lite.world.reading import World, check_text
from rlhf_lite.world.writing import Person, check_document

__all__ = [
    "FACTS", "LEAST_EXPOSURE", "Person", "World", "WorldError", "check_document", "check_text",
    "draw_prompts", "match",
]  # fmt: skip
