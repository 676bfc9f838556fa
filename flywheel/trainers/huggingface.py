"""Classifiers of texts from Hugging Face's transformers, fine-tuned by their own Trainer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from flywheel.errors import SettingsError
from flywheel.records import Answer, Sample
from flywheel.trainers.base import Context, Predict, TrainingSet, class_answers
from flywheel.trainers.estimator import text_of

_BATCH = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class HuggingFaceTrainer:
    """A trainer that fine-tunes a model for sequence classification.

    The artifact is what `save_pretrained` writes, weights as safetensors, with the tokenizer. The
    embedding is the mean of the last layer over a text's tokens. A champion is where the next
    training starts. Nothing is fetched: `model` and `tokenizer` say where they come from.
    """

    model: Callable[[], Any]
    """a model for sequence classification with as many labels as classes: from a configuration, or
    `from_pretrained` of a folder"""
    tokenizer: Callable[[], Any]
    """the tokenizer that goes with it"""
    classes: Sequence[str]
    """in the order of the model's labels; add at the end only"""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """of `transformers.TrainingArguments`, such as num_train_epochs"""
    features: Callable[[Sequence[Sample]], list[str]] = text_of
    """samples -> texts; raises PayloadError for a sample that cannot be read"""

    def train(self, rows: TrainingSet, context: Context) -> None:
        """Fine-tune on all rows, each read when it is due, with their weights."""
        hub = _transformers()
        hub.set_seed(context.seed % 2**32)
        if context.champion is None:
            model, tokenizer = self.model(), self.tokenizer()
        else:
            model = _load(hub, context.champion)
            tokenizer = hub.AutoTokenizer.from_pretrained(context.champion)  # its model's words
        with tempfile.TemporaryDirectory() as scratch:
            usual = {"per_device_train_batch_size": _BATCH, "lr_scheduler_type": "cosine"}
            arguments = hub.TrainingArguments(
                output_dir=scratch,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                remove_unused_columns=False,
                use_cpu=context.device == "cpu",
                seed=context.seed % 2**32,
                **{**usual, **self.arguments},
            )
            trainer = hub.Trainer(
                model=model,
                args=arguments,
                train_dataset=range(len(rows)),
                data_collator=partial(self._batch, rows, tokenizer),
                compute_loss_func=_weighted_loss,
                callbacks=[_progress(hub, context)],
            )
            trainer.remove_callback(hub.PrinterCallback)  # the night has a progress line of its own
            trainer.train()
        model.save_pretrained(context.folder)
        tokenizer.save_pretrained(context.folder)

    def load(self, folder: Path, device: str) -> Predict:
        """Load model and tokenizer from an artifact."""
        import torch  # noqa: PLC0415 - with the extra huggingface

        hub = _transformers()
        model = _load(hub, folder).to(device).eval()
        tokenizer = hub.AutoTokenizer.from_pretrained(folder)

        def predict(samples: Sequence[Sample]) -> list[Answer]:
            answers = list[Answer]()
            for start in range(0, len(samples), _BATCH):
                given = _encoded(tokenizer, self.features(samples[start : start + _BATCH]))
                given = {name: value.to(device) for name, value in given.items()}
                with torch.inference_mode():
                    output = model(**given, output_hidden_states=True)
                mask = given["attention_mask"].unsqueeze(2)
                means = (output.hidden_states[-1] * mask).sum(dim=1) / mask.sum(dim=1)
                answers += class_answers(self.classes, output.logits, means)
            return answers

        return predict

    def _batch(self, rows: TrainingSet, tokenizer: Any, numbers: Sequence[int]) -> dict[str, Any]:
        import torch  # noqa: PLC0415 - with the extra huggingface

        some = [rows[number] for number in numbers]
        classes = list(self.classes)
        labels = torch.tensor([classes.index(row.answer) for row in some])
        weights = torch.tensor([row.weight for row in some], dtype=torch.float32)
        texts = _encoded(tokenizer, self.features([row.sample for row in some]))
        return {**texts, "labels": torch.stack([labels.float(), weights], dim=1)}


def _encoded(tokenizer: Any, texts: list[str]) -> dict[str, Any]:
    return dict(tokenizer(texts, padding=True, truncation=True, return_tensors="pt"))


def _weighted_loss(output: Any, labels: Any, **_: Any) -> Any:
    """The weighted mean of the cross-entropy; labels (B, 2) are a class and a weight."""
    from torch.nn.functional import cross_entropy  # noqa: PLC0415 - with the extra huggingface

    logits = output["logits"] if isinstance(output, dict) else output.logits
    losses = cross_entropy(logits, labels[:, 0].long(), reduction="none")
    return (losses * labels[:, 1]).mean()


def _progress(hub: Any, context: Context) -> Any:
    class Report(hub.TrainerCallback):  # type: ignore[misc]  # known when it is installed
        def on_log(self, _args: Any, state: Any, _control: Any, **given: Any) -> None:
            loss = (given.get("logs") or {}).get("loss")
            if loss is not None:
                context.progress(round(state.epoch or 0), int(state.num_train_epochs), float(loss))

    return Report()


def _load(hub: Any, folder: Path) -> Any:
    return hub.AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True)


def _transformers() -> Any:
    try:
        import transformers  # noqa: PLC0415 - in the extra huggingface
    except ImportError as error:
        raise SettingsError(
            "transformers is not installed. Run pip install 'flywheel[huggingface]'"
        ) from error
    logging: Any = transformers.utils.logging
    logging.disable_progress_bar()  # of files that take no time
    return transformers
