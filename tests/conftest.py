"""Share one world, one shipped model and one tiny random model between the tests."""

import shutil

import pytest
import torch

from rlhf_lite import models
from rlhf_lite.runtime import DATA
from rlhf_lite.world import World


@pytest.fixture(scope="session")
def world():
    return World()


@pytest.fixture(scope="session")
def base():
    return models.load(DATA / "models" / "base")


@pytest.fixture(scope="session")
def tiny(world):
    """A random GPT-2 of two layers with large weights, so that its distributions are far from flat."""
    import random

    rng = random.Random(0)
    tokenizer = models.new_tokenizer([world.sample(rng).text for _ in range(300)], vocab_size=600)
    torch.manual_seed(0)
    model = models.new_model(tokenizer, layers=2, width=32, heads=2, context=96).eval()
    with torch.no_grad():
        for param in model.parameters():
            if param.dim() > 1:
                param.mul_(8)
    return model, tokenizer


@pytest.fixture
def damaged(tmp_path):
    """A copy of the world's files that a test may damage."""
    folder = tmp_path / "world"
    shutil.copytree(DATA / "world", folder)
    return folder
