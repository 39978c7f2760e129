"""An example of a trainable: a small network in numpy that classifies scikit-learn's handwritten digits.

python search/run_grid.py --trainable examples.digits:fit
python search/run_optuna.py --trainable examples.digits:fit --budget 40
"""

import numpy as np
from sklearn.datasets import load_digits

OBJECTIVE = "val_accuracy"
GRID = {"epochs": [5, 10, 20], "lr": [0.3, 0.1, 0.03], "gamma": [0.1, 0.5, 1.0], "hidden": [32], "seed": [0]}
SPACE = """
epochs = {low = 3, high = 20}
lr     = {low = 0.01, high = 1.0, log = true}
gamma  = {low = 0.1, high = 1.0}
hidden = {choices = [16, 32, 64]}
"""
BATCH, STEP = 50, 5  # images in a batch; epochs after which lr is multiplied by gamma
TRAIN, VAL, TEST = slice(0, 1000), slice(1000, 1400), slice(1400, None)
X, Y = load_digits(return_X_y=True)


def prefix(config):
    """An entry for each epoch: its learning rate; the first also has the other settings."""
    rates = [config["lr"] * config["gamma"] ** (epoch // STEP) for epoch in range(config["epochs"])]
    return ((config["hidden"], config["seed"], rates[0]), *rates[1:])


def fit(config, report, resume):
    """Stochastic gradient descent on softmax regression over one hidden layer."""
    rng = np.random.default_rng(config["seed"])
    shapes = {"w1": (64, config["hidden"]), "w2": (config["hidden"], 10)}
    weights = resume.state if resume else {name: 0.1 * rng.standard_normal(shape) for name, shape in shapes.items()}
    for epoch in range(resume.epoch if resume else 0, config["epochs"]):
        lr = config["lr"] * config["gamma"] ** (epoch // STEP)
        order = np.random.default_rng([config["seed"], epoch]).permutation(1000)
        for rows in order.reshape(-1, BATCH):
            hidden, error = _forward(weights, X[TRAIN][rows])
            error[np.arange(BATCH), Y[TRAIN][rows]] -= 1
            slope = (error @ weights["w2"].T) * (hidden > 0)
            weights["w2"] -= lr * hidden.T @ error / BATCH
            weights["w1"] -= lr * (X[TRAIN][rows] / 16).T @ slope / BATCH
        report({"val_accuracy": _accuracy(weights, VAL)}, weights)


def test(config, state):
    """Accuracy on images of neither training nor validation."""
    return {"test_accuracy": _accuracy(state, TEST)}


def _forward(weights, images):
    hidden = np.maximum(images / 16 @ weights["w1"], 0)
    powers = np.exp(np.clip(hidden @ weights["w2"], -50, 50))
    return hidden, powers / powers.sum(axis=1, keepdims=True)


def _accuracy(weights, rows):
    return float((_forward(weights, X[rows])[1].argmax(axis=1) == Y[rows]).mean())
