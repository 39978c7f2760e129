"""Search the same grid by a plain Ray Tune script, written like the tutorials of Ray and PyTorch: grid.py's baseline.

    python bench/plain_tune.py FOLDER --workers 2

FOLDER holds `train/` and `val/` with a folder of JPEG files for each class. Each trial opens the files as
torchvision's ImageFolder does, one at a time when the loader needs them, and trains the paper's CNN as
`agr.training.loop` does: Adam, class-weighted cross entropy, StepLR, batches of 32, one thread. The CNN is written as
in those tutorials, in torch's default memory layout and with each pool after its ReLU; `--agr-model` takes this
project's instead, which computes the same in half the time. MLflow's store is `mlflow.db` in the current folder. Two
things that tutorials often add are left out, which makes this script faster: a checkpoint after each epoch, and worker
processes of the loader.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from ray import init, tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from agr.training.model import build

EXPERIMENT = "plain"
STEP_SIZE = 5  # epochs between two multiplications of the learning rate by gamma
BATCH = 32


class Net(nn.Module):
    """The paper's CNN: (batch, 3, 12, 98) to logits (batch, 2)."""

    def __init__(self) -> None:
        """Weights as torch initialises them."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(64 * 3 * 24, 128)
        self.fc2 = nn.Linear(128, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.pool(functional.relu(self.conv1(x)))
        x = self.pool(functional.relu(self.conv2(x)))
        x = functional.relu(self.fc1(torch.flatten(x, 1)))
        logits: Tensor = self.fc2(x)
        return logits


class JpegFolder(Dataset[tuple[Tensor, int]]):
    """ImageFolder, ToTensor and Normalize(0.5, 0.5): (3, height, width) float32 in -1..1, and the class."""

    def __init__(self, root: Path) -> None:
        """List the files below root; the classes are its folders in alphabetical order."""
        classes = sorted(path for path in root.iterdir() if path.is_dir())
        self.files = [(file, label) for label, path in enumerate(classes) for file in sorted(path.glob("*.png"))]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        file, label = self.files[index]
        with Image.open(file) as image:
            pixels = torch.from_numpy(np.array(image.convert("RGB")))
        return pixels.permute(2, 0, 1).to(torch.float32).div_(255.0).sub_(0.5).div_(0.5), label


def run_epoch(
    model: nn.Module,
    loader: DataLoader[tuple[Tensor, int]],
    criterion: nn.CrossEntropyLoss,
    optimizer: torch.optim.Optimizer | None = None,
) -> tuple[float, float]:
    """One pass, training if there is an optimizer: the mean loss of the batches and the balanced accuracy."""
    model.train(optimizer is not None)
    losses, right, seen = [], torch.zeros(2), torch.zeros(2)
    with torch.set_grad_enabled(optimizer is not None):
        for x, y in loader:
            output = model(x)
            loss = criterion(output, y)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            losses.append(loss.item())
            seen += torch.bincount(y, minlength=2)
            right += torch.bincount(y[output.argmax(dim=1) == y], minlength=2)
    return float(np.mean(losses)), float((right / seen).mean())


def train(config: dict[str, Any], folder: Path, seed: int, agr_model: bool) -> None:
    """One trial: `epochs` epochs at learning rate `lr`, multiplied by `gamma` every STEP_SIZE epochs."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    data = JpegFolder(folder / "train")
    loader = DataLoader(data, batch_size=BATCH, shuffle=True)
    val_loader = DataLoader(JpegFolder(folder / "val"), batch_size=BATCH)
    counts = np.bincount([label for _, label in data.files])
    criterion = nn.CrossEntropyLoss(weight=torch.tensor(len(data) / (2 * counts), dtype=torch.float32))
    model = build("cnn", seed) if agr_model else Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, STEP_SIZE, config["gamma"])
    for _ in range(config["epochs"]):
        began = time.perf_counter()
        train_loss, train_accuracy = run_epoch(model, loader, criterion, optimizer)
        val_loss, val_accuracy = run_epoch(model, val_loader, criterion)
        scheduler.step()
        tune.report(
            {
                "train_loss": train_loss,
                "train_balanced_accuracy": train_accuracy,
                "val_loss": val_loss,
                "val_balanced_accuracy": val_accuracy,
                "seconds": time.perf_counter() - began,
            }
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Plain Ray Tune over epochs x lr x gamma.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--lr", type=float, nargs="+", default=[0.1, 0.01, 0.001])
    parser.add_argument("--gamma", type=float, nargs="+", default=[0.1, 0.3, 0.7])
    parser.add_argument("--workers", type=int, default=2, help="trials at a time, one CPU each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--agr-model", action="store_true", help="agr.training.model's CNN instead of the script's own")
    options = parser.parse_args()
    init(num_cpus=options.workers)
    own = {"seed": options.seed, "agr_model": options.agr_model}
    trainable = tune.with_parameters(train, folder=options.folder.resolve(), **own)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={key: tune.grid_search(getattr(options, key)) for key in ("epochs", "lr", "gamma")},
        tune_config=tune.TuneConfig(metric="val_balanced_accuracy", mode="max"),
        run_config=tune.RunConfig(
            storage_path=str(Path("ray_results").resolve()),
            callbacks=[MLflowLoggerCallback(f"sqlite:///{Path('mlflow.db').resolve()}", experiment_name=EXPERIMENT)],
        ),
    )
    best = tuner.fit().get_best_result()
    print(f"best: {best.config}, validation balanced accuracy {best.metrics['val_balanced_accuracy']:.4f}")


if __name__ == "__main__":
    main()
