"""Share one world, one shipped model and one tiny random model between the tests."""

import copy
import shutil

from rlhf_lite import models
from rlhf_lite.annotators import Reader, load_annotators
from rlhf_lite.runtime import DATA
from rlhf_lite.world import World

import matplotlib as mpl
import pytest
import torch


@pytest.fixture(autouse=True)
def own_style():
    """Give every test matplotlib's settings as they were: a style that one sets never reaches the next."""
    with mpl.rc_context():
        yield


@pytest.fixture(scope="session")
def world():
    return World()


@pytest.fixture(scope="session")
def reader(world):
    return Reader(world)


@pytest.fixture(scope="session")
def people(world):
    return load_annotators(world)


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


@pytest.fixture(scope="session")
def wordy(tiny):
    """The tiny model with a head of its own that likes the end-of-text token and new lines: of 16
    responses of 10 tokens, some end and some do not, some have whole lines and some do not.
    """
    model, tokenizer = copy.deepcopy(tiny[0]), tiny[1]
    head = torch.nn.Linear(32, len(tokenizer))
    with torch.no_grad():
        head.weight.copy_(model.lm_head.weight)
        head.bias.zero_()
        head.bias[[tokenizer.eos_token_id, *tokenizer("\n")["input_ids"]]] = 4.0
    model.lm_head, model.config.tie_word_embeddings = head, False
    return model, tokenizer


@pytest.fixture(scope="session")
def other(wordy):
    """A reference that is not the policy: the wordy model with noise of 0.05 on every weight."""
    model, generator = copy.deepcopy(wordy[0]), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    return model
