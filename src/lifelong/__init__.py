"""Language models that keep learning.

The names below are loaded when they are first used, so that importing the package is light.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from lifelong.version import __version__

if TYPE_CHECKING:
    from lifelong.learn.learner import ContinualLearner
    from lifelong.model.directory import is_model_directory as check_model_exists
    from lifelong.model.directory import load_model
    from lifelong.model.encoder import EncoderOnlyModel
    from lifelong.model.extract import extract_model_for_inference, load_model_and_tokenizer
    from lifelong.model.seq2seq import EncoderDecoderModel
    from lifelong.model.transformer import Transformer as ContinualLLM
    from lifelong.retrieve.answering import RAGModel
    from lifelong.retrieve.splitting import DocumentProcessor
    from lifelong.retrieve.store import SimpleDocumentStore
    from lifelong.settings.learn import LearnSettings
    from lifelong.settings.learn import LearnSettings as ContinualLearningConfig
    from lifelong.settings.model import ModelConfig
    from lifelong.settings.train import TrainSettings
    from lifelong.text import DataSource, prepare
    from lifelong.text.texts import load_and_split_data
    from lifelong.tokens.dataloaders import create_dataloaders
    from lifelong.tokens.tokenizer import BPETokenizer
    from lifelong.train.continuing import continue_training
    from lifelong.train.trainer import Trainer

# A thread that waits for the others of its team spins before it sleeps: by libgomp's default for milliseconds, while
# it holds the core that the one it waits for may need. Beside one busy program a training was nine times slower
# (benchmarks/busy.py). Read once, when torch loads libgomp; what a user has set is left alone.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "5000"

_PLACES = {
    "BPETokenizer": ("lifelong.tokens.tokenizer", "BPETokenizer"),
    "ContinualLLM": ("lifelong.model.transformer", "Transformer"),
    "ContinualLearner": ("lifelong.learn.learner", "ContinualLearner"),
    "ContinualLearningConfig": ("lifelong.settings.learn", "LearnSettings"),
    "DataSource": ("lifelong.text", "DataSource"),
    "DocumentProcessor": ("lifelong.retrieve.splitting", "DocumentProcessor"),
    "EncoderDecoderModel": ("lifelong.model.seq2seq", "EncoderDecoderModel"),
    "EncoderOnlyModel": ("lifelong.model.encoder", "EncoderOnlyModel"),
    "LearnSettings": ("lifelong.settings.learn", "LearnSettings"),
    "ModelConfig": ("lifelong.settings.model", "ModelConfig"),
    "RAGModel": ("lifelong.retrieve.answering", "RAGModel"),
    "SimpleDocumentStore": ("lifelong.retrieve.store", "SimpleDocumentStore"),
    "Trainer": ("lifelong.train.trainer", "Trainer"),
    "TrainSettings": ("lifelong.settings.train", "TrainSettings"),
    "check_model_exists": ("lifelong.model.directory", "is_model_directory"),
    "continue_training": ("lifelong.train.continuing", "continue_training"),
    "create_dataloaders": ("lifelong.tokens.dataloaders", "create_dataloaders"),
    "extract_model_for_inference": ("lifelong.model.extract", "extract_model_for_inference"),
    "load_and_split_data": ("lifelong.text.texts", "load_and_split_data"),
    "load_model_and_tokenizer": ("lifelong.model.extract", "load_model_and_tokenizer"),
    "load_model": ("lifelong.model.directory", "load_model"),
    "prepare": ("lifelong.text", "prepare"),
}

__all__ = [
    "BPETokenizer",
    "ContinualLLM",
    "ContinualLearner",
    "ContinualLearningConfig",
    "DataSource",
    "DocumentProcessor",
    "EncoderDecoderModel",
    "EncoderOnlyModel",
    "LearnSettings",
    "ModelConfig",
    "RAGModel",
    "SimpleDocumentStore",
    "TrainSettings",
    "Trainer",
    "__version__",
    "check_model_exists",
    "continue_training",
    "create_dataloaders",
    "extract_model_for_inference",
    "load_and_split_data",
    "load_model",
    "load_model_and_tokenizer",
    "prepare",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _PLACES:
        raise AttributeError(f"module 'lifelong' has no attribute '{name}'")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(module), attribute)
