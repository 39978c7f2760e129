"""The settings of a trial."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from agr.errors import ModelError, SettingsError
from agr.training.augmentation import NONE, Augmentation
from agr.training.model import MAX_WIDTH, MIN_WIDTH, MODELS, check_size

OPTIMIZER = "adam"
VERSION = 6  # raise it whenever the same settings would give other weights or metrics
PRECISIONS = ("float32", "bf16")
PLANNED = ("epochs", "lr", "gamma")  # settings that act through the learning rates alone
STEP_SIZE = 5  # epochs between two multiplications of the learning rate by gamma
# names under which earlier versions of AGR stored settings, and their current names
FORMER_NAMES = {f"vary_{name}": f"augment_{name}" for name in asdict(NONE) if name != "pitch_targets"}
FORMER_NAMES |= {"vary_population": "augment_pitch_targets"}
LATER = {"precision": "float32"}  # settings that earlier versions lacked, and what they did


@dataclass(frozen=True)
class Settings:
    """The hyperparameters of one trial."""

    epochs: int
    lr: float  # Adam's learning rate in the first STEP_SIZE epochs
    gamma: float  # multiplies the learning rate every STEP_SIZE epochs
    batch_size: int = 32
    seed: int = 0  # determines the initial weights, the order of the clips, their augmentation and dropout
    model: str = "cnn"
    # a step multiplies every weight and bias by 1 - lr * weight_decay (AdamW, Loshchilov and Hutter, ICLR 2019)
    weight_decay: float = 0.0
    dropout: float = 0.0  # the probability of dropping a feature before the last layer
    # the share of each label that is spread over both classes in the training steps (Szegedy et al., CVPR 2016);
    # reported losses are computed without it
    label_smoothing: float = 0.0
    width: float = 1.0  # multiplies the channels and hidden units of the model
    start: str = ""  # the weights that training begins with, as `agr.training.start` names them; "" for random ones
    precision: str = "float32"  # of convolutions and products in training steps; bf16 by torch's autocast
    augment_speed: float = 0.0  # this and the following: the strengths of `agr.training.augmentation.Augmentation`
    augment_pitch: float = 0.0
    augment_formants: float = 0.0
    augment_colour: float = 0.0
    augment_line: float = 0.0
    augment_noise: float = 0.0
    augment_room: float = 0.0
    augment_shift: int = 0
    augment_pitch_targets: float = 0.0

    @property
    def augmentation(self) -> Augmentation:
        """All strengths of augmentation."""
        return Augmentation(**{item.name: getattr(self, f"augment_{item.name}") for item in fields(Augmentation)})

    def __post_init__(self) -> None:
        """Raises: SettingsError if a value is outside its range, or the model is too large at this width."""
        self.augmentation  # noqa: B018  checks its own ranges
        ranges: dict[str, tuple[float, float]] = {"epochs": (1, 10_000), "lr": (0.0, 10.0), "gamma": (0.0, 1.0)}
        ranges |= {"batch_size": (1, 65_536), "seed": (0, 2**32 - 1), "weight_decay": (0.0, 1.0)}
        ranges |= {"dropout": (0.0, 0.9), "label_smoothing": (0.0, 0.5), "width": (MIN_WIDTH, MAX_WIDTH)}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high or (name == "lr" and value == 0):
                raise SettingsError(f"{name} {value}: expected {'above ' if name == 'lr' else ''}{low} to {high}")
        if self.precision not in PRECISIONS:
            raise SettingsError(f"precision {self.precision}: expected {' or '.join(PRECISIONS)}")
        if self.model in MODELS:
            try:
                check_size(self.model, self.width)
            except ModelError as error:
                raise SettingsError(str(error)) from error

    def rates(self) -> tuple[float, ...]:
        """The learning rate of each epoch, by the closed form of torch's StepLR."""
        return tuple(self.lr * self.gamma ** (epoch // STEP_SIZE) for epoch in range(self.epochs))

    def config(self) -> dict[str, Any]:
        """All settings by name."""
        return asdict(self)

    def prefix(self) -> tuple[Any, ...]:
        """One item for each epoch; two trials share their first k epochs if their first k items are equal."""
        others = tuple(value for name, value in self.config().items() if name not in PLANNED)
        first, *rest = self.rates()
        return ((others, first), *rest)
