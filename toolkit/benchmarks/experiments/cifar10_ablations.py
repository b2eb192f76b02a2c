"""What each ingredient brings: the lean network on CIFAR-10 in four epochs, with one thing changed at a time.

Promises, for each: 50.00% test accuracy (mean over seeds), 30 minutes a run on two cores, 4,000 MiB. What it is to be
compared with is `cifar10_lean_short`.

    python -m toolkit bench zoo --models cifar10_ablation
"""

from dataclasses import replace

from toolkit.benchmarks.experiment import Experiment, Promise
from toolkit.recipes import RECIPES

_SHORT = RECIPES["short_cifar"]
_CHANGES: dict[str, dict[str, object]] = {
    "no_flip": {"flip": "none"},
    "random_flip": {"flip": "random"},
    "no_shift": {"shift": 0},
    "no_smoothing": {"label_smoothing": 0.0},
    "sgd": {"optimizer": "sgd", "learning_rate": 0.3, "weight_decay": 5e-4},
    "adamw": {"optimizer": "adamw", "learning_rate": 4e-3},
    "lion": {"optimizer": "lion", "learning_rate": 6e-4, "weight_decay": 0.5},
    "cosine": {"schedule": "cosine"},
    "constant": {"schedule": "constant", "warmup": 0.0},
    "averaging": {"weight_averaging": 0.98},
    "erasing": {"random_erasing": 0.5},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    "randaugment": {"randaugment": 0.2},
    "clipping": {"clip_norm": 1.0},
}

EXPERIMENTS = tuple(
    Experiment(
        name=f"cifar10_ablation_{name}",
        dataset="cifar10",
        architecture="lean_cnn_32",
        recipe=replace(_SHORT, name=f"short_cifar_{name}", **changes),  # type: ignore[arg-type]
        promise=Promise(accuracy=0.5, minutes=30, mib=4000),
        order=5,
    )
    for name, changes in _CHANGES.items()
)
