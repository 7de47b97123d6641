"""TRL's SFTTrainer, without what a job in a log does not want."""

import logging
import warnings
from typing import Any

import datasets
import transformers
from transformers.trainer_callback import PrinterCallback
from trl import SFTTrainer


class Trainer(SFTTrainer):
    """Prints no dictionaries, writes no model cards."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.remove_callback(PrinterCallback)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """The run's report says more."""


def quiet() -> None:
    """Errors only, and no bars: the log is read by people and shown when a job fails."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    logging.getLogger("trl").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"torch|bitsandbytes|peft")
