"""Data about data: what each dataset holds, where it comes from, whose it is and how to know it is whole.

Nothing is loaded here; `toolkit.loading` turns a name from `DATASETS` into arrays.
"""

from dataclasses import dataclass

from toolkit.errors import InputError

_KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_TORONTO = "https://www.cs.toronto.edu/~kriz/"


@dataclass(frozen=True)
class RemoteFile:
    """A file to download: where it lies, its published checksum ("sha256:…" or "md5:…") and its size in bytes."""

    url: str
    hash: str
    bytes: int

    @property
    def name(self) -> str:
        """The file's own name.

        >>> DATASETS["mnist"].files[0].name
        'mnist.npz'
        """
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class DatasetInfo:
    """What a dataset holds and whose it is. `image_shape` is (height, width, channels), sizes count images."""

    name: str
    title: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    train_size: int
    test_size: int
    licence: str
    source: str
    citation: str
    files: tuple[RemoteFile, ...] = ()

    @property
    def classes(self) -> int:
        """How many classes there are.

        >>> DATASETS["cifar100"].classes
        100
        """
        return len(self.class_names)

    @property
    def download_bytes(self) -> int:
        """Bytes that come over the network when nothing is on this machine yet.

        >>> DATASETS["digits"].download_bytes
        0
        """
        return sum(file.bytes for file in self.files)


_DIGITS = DatasetInfo(
    name="digits",
    title="Handwritten digits (UCI, from scikit-learn)",
    image_shape=(28, 28, 1),
    class_names=tuple("0123456789"),
    train_size=1438,
    test_size=359,
    licence="CC BY 4.0",
    source="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
    citation="E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits. "
    "UCI Machine Learning Repository, 1998. doi:10.24432/C50P49",
)

_MNIST = DatasetInfo(
    name="mnist",
    title="MNIST",
    image_shape=(28, 28, 1),
    class_names=tuple("0123456789"),
    train_size=60_000,
    test_size=10_000,
    licence="CC BY-SA 3.0",
    source="http://yann.lecun.com/exdb/mnist/",
    citation="Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-Based Learning Applied to Document Recognition. "
    "Proceedings of the IEEE 86(11), 2278-2324, 1998. doi:10.1109/5.726791",
    files=(
        RemoteFile(
            url=_KERAS + "mnist.npz",
            hash="sha256:731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
            bytes=11_490_434,
        ),
    ),
)

_FASHION_MNIST = DatasetInfo(
    name="fashion_mnist",
    title="Fashion-MNIST",
    image_shape=(28, 28, 1),
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    train_size=60_000,
    test_size=10_000,
    licence="MIT",
    source="https://github.com/zalandoresearch/fashion-mnist",
    citation="H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST: a Novel Image Dataset for Benchmarking "
    "Machine Learning Algorithms. 2017. arXiv:1708.07747",
    files=(
        RemoteFile(_KERAS + "train-images-idx3-ubyte.gz", "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26_421_880),
        RemoteFile(_KERAS + "train-labels-idx1-ubyte.gz", "md5:25c81989df183df01b3e8a0aad5dffbe", 29_515),
        RemoteFile(_KERAS + "t10k-images-idx3-ubyte.gz", "md5:bef4ecab320f06d8554ea6380940ec79", 4_422_102),
        RemoteFile(_KERAS + "t10k-labels-idx1-ubyte.gz", "md5:bb300cfdad3c16e7a12a480ee83cd310", 5_148),
    ),
)

_CIFAR_LICENCE = "none stated by the authors; cite the report when you use it"
_CIFAR_CITATION = "A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images. Technical report, 2009."

_CIFAR10 = DatasetInfo(
    name="cifar10",
    title="CIFAR-10",
    image_shape=(32, 32, 3),
    class_names=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    train_size=50_000,
    test_size=10_000,
    licence=_CIFAR_LICENCE,
    source="https://www.cs.toronto.edu/~kriz/cifar.html",
    citation=_CIFAR_CITATION,
    files=(
        RemoteFile(
            url=_TORONTO + "cifar-10-python.tar.gz",
            hash="sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            bytes=170_498_071,
        ),
    ),
)

# The spelling, underscores included, is that of the published label file.
_CIFAR100_WORDS = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""

_CIFAR100 = DatasetInfo(
    name="cifar100",
    title="CIFAR-100",
    image_shape=(32, 32, 3),
    class_names=tuple(_CIFAR100_WORDS.split()),
    train_size=50_000,
    test_size=10_000,
    licence=_CIFAR_LICENCE,
    source="https://www.cs.toronto.edu/~kriz/cifar.html",
    citation=_CIFAR_CITATION,
    files=(
        RemoteFile(
            url=_TORONTO + "cifar-100-python.tar.gz",
            hash="sha256:85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
            bytes=169_001_437,
        ),
    ),
)

DATASETS: dict[str, DatasetInfo] = {info.name: info for info in (_DIGITS, _MNIST, _FASHION_MNIST, _CIFAR10, _CIFAR100)}


def dataset_key(name: str) -> str:
    """A name as `DATASETS` spells it: lower case, underscores.

    >>> dataset_key(" Fashion-MNIST")
    'fashion_mnist'
    """
    return name.strip().lower().replace("-", "_")


def dataset_info(name: str) -> DatasetInfo:
    """The entry of `DATASETS` for a name; case and hyphens are forgiven. An unknown name is an InputError.

    >>> dataset_info("Fashion-MNIST").class_names[9]
    'Ankle boot'
    """
    info = DATASETS.get(dataset_key(name))
    if info is None:
        raise InputError(f"{name!r} is not a dataset; choose one of {', '.join(DATASETS)}")
    return info
