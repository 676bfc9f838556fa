"""Messages by what they are about, with a model of Hugging Face; tickets.csv has the first ones."""

import csv
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from flywheel import Example, Task
from flywheel.labeling import choice, text
from flywheel.records import Sample, Split
from flywheel.scoring import classification
from flywheel.trainers.huggingface import HuggingFaceTrainer

CLASSES = ["invoice", "login", "refund"]  # your classes; add at the end only
ARGUMENTS = {"num_train_epochs": 20, "learning_rate": 1e-3, "per_device_train_batch_size": 8}
MARK = {"unk_token": "[UNK]"}  # of what the tokenizer does not know
SIZES = {"hidden_size": 64, "intermediate_size": 64, "vocab_size": 500, "num_hidden_layers": 1}


def task():
    return Task(
        model=HuggingFaceTrainer(
            model=model, tokenizer=tokenizer, classes=CLASSES, arguments=ARGUMENTS
        ),
        labeling=choice(text(), CLASSES, question="What is it about?"),
        scores=classification(CLASSES),
        start_data=start_data,
    )


def model():  # or AutoModelForSequenceClassification.from_pretrained(FOLDER, num_labels=3)
    more = {"num_attention_heads": 2, "hidden_dropout_prob": 0.3, "num_labels": len(CLASSES)}
    return BertForSequenceClassification(BertConfig(**SIZES, **more))


def tokenizer():  # or AutoTokenizer.from_pretrained(FOLDER); here words and pieces of the tickets
    pieces = Tokenizer(models.WordPiece(**MARK))
    pieces.normalizer, pieces.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    learning = trainers.WordPieceTrainer(
        vocab_size=SIZES["vocab_size"],
        special_tokens=["[PAD]", *MARK.values()],
        show_progress=False,
    )
    pieces.train_from_iterator((message for message, _ in tickets()), learning)
    marks = {**MARK, "pad_token": "[PAD]", "model_max_length": 128}
    return PreTrainedTokenizerFast(tokenizer_object=pieces, **marks)


def tickets():
    with Path(__file__).with_name("tickets.csv").open(newline="", encoding="utf-8") as file:
        return [(row["text"], row["class"]) for row in csv.DictReader(file)]


def start_data():
    for number, (message, answer) in enumerate(tickets()):
        split = Split.TEST if number % 4 == 0 else Split.TRAIN  # every fourth is held out
        yield Example(sample=Sample.of(message.encode(), "text/plain"), answer=answer, split=split)
