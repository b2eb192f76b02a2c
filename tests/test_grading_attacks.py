"""No submission, hostile or unlucky, gets a mark that it did not earn or loses one that it did, on any isolation.

Every attack of `tests/attacks.py` is graded on every level of isolation that the machine has; a level's submissions run
side by side, once, and every test looks at what came out.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import attacks, trial
from tests.attacks import ATTACKS, HONEST, Attack
from tests.test_grading_exports import read_all
from tests.trial import TRIAL
from toolkit.errors import InputError
from toolkit.grading.grader import Sandboxes, grade
from toolkit.grading.models import ModelError, read_model
from toolkit.grading.reports import Report
from toolkit.grading.sandbox import LEVELS, SENTENCES, Limits, levels

SHORT = Limits(statement_seconds=1.0, submission_seconds=6.0)
# Attacks that use up a limit of time take a second each: all of them on the strongest level, these on every one.
SLOW_EVERYWHERE = {"loop in a function", "loop at import, at the start", "sleeps, deaf to signals", "stops itself"}
# A fresh interpreter for every submission, as where nothing can be forked: some of the attacks, they take longer.
FRESH = {level: f"{level}, fresh" for level in levels() if level in ("process", "rlimits") and sys.platform == "linux"}
STRAY = "stray-cnn-g3"
LONGEST_SECONDS = 12.0
AT_ONCE = 8
EVERYTHING = bool(os.environ.get("CNN_TOOLKIT_ALL_ATTACKS"))


@dataclass
class Outcome:
    """What became of a level's submissions: reports and seconds by name, and what they left behind."""

    reports: dict[str, Report] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    victim: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)


VICTIM = {"results.json": '{"score": 0}', "grades.csv": "points\n0\n", "notes.txt": "mine"}


@contextmanager
def listening(calls: list[str]) -> Iterator[tuple[int, int]]:
    """Ports of TCP and UDP on which every word is written down."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        tcp.settimeout(0.1)
        udp.settimeout(0.1)
        done = threading.Event()

        def listen(ear: socket.socket, name: str) -> None:
            while not done.is_set():
                try:
                    if ear is tcp:
                        ear.accept()[0].close()
                    else:
                        ear.recv(100)
                except TimeoutError:
                    continue
                calls.append(name)

        ears = [threading.Thread(target=listen, args=ear) for ear in ((tcp, "TCP"), (udp, "UDP"))]
        for ear in ears:
            ear.start()
        try:
            yield tcp.getsockname()[1], udp.getsockname()[1]
        finally:
            done.set()
            for ear in ears:
                ear.join()


def strays() -> list[str]:
    """The processes that took the name of a stray."""
    found = []
    for name in Path("/proc").glob("[0-9]*/comm"):
        try:
            found += [str(name)] if name.read_text().strip() == STRAY else []
        except OSError:
            continue
    return found


@functools.cache
def outcome(level: str) -> Outcome:
    """Grade everything on one level."""
    found = Outcome()
    wanted = {attack.name: attack.source.encode() for attack in ATTACKS if runs(level, attack)}
    wanted |= {name: attacks.honest(name).encode() for name in HONEST} | attacks.wild()
    with tempfile.TemporaryDirectory() as name, listening(found.calls) as (tcp, udp):
        folder, victim, temporary = Path(name), Path(name, "victim"), Path(name, "temporary")
        victim.mkdir()
        temporary.mkdir()
        for file, text in VICTIM.items():
            (victim / file).write_text(text)
        places = {"@VICTIM@": victim, "@STRAY@": STRAY, "@TCP@": tcp, "@UDP@": udp, "@REFERENCE@": trial.__file__}

        def one(name: str, boxes: Sandboxes) -> None:
            source = wanted[name]
            for word, place in places.items():
                source = source.replace(word.encode(), str(place).encode())
            path = folder / str(sorted(wanted).index(name)) / "trial.py"
            path.parent.mkdir()
            path.write_bytes(source)
            begun = time.monotonic()
            found.reports[name] = grade(path, TRIAL, sandboxes=boxes)
            found.seconds[name] = time.monotonic() - begun

        before, tempfile.tempdir = tempfile.tempdir, str(temporary)
        try:
            with (
                Sandboxes(level.split(",", maxsplit=1)[0], limits=SHORT, fork="fresh" not in level) as boxes,
                ThreadPoolExecutor(AT_ONCE) as pool,
            ):
                boxes.get("numpy")
                list(pool.map(lambda name: one(name, boxes), wanted))
        finally:
            tempfile.tempdir = before
        found.strays = strays()
        found.left = [str(path) for path in temporary.rglob("*")]
        found.victim = {path.name: path.read_text() for path in victim.iterdir()}
    return found


def runs(level: str, attack: Attack) -> bool:
    """Whether an attack is tried on a level."""
    if level in FRESH.values():
        return attack in ATTACKS[::6] and not attack.slow and not attack.only
    there = level in (attack.only or LEVELS)
    return there and (not attack.slow or level == levels()[-1] or attack.name in SLOW_EVERYWHERE or EVERYTHING)


def earned(report: Report) -> dict[str, int]:
    return {question.name: question.points for question in report.questions}


PLACES = (*levels(), *FRESH.values())
CASES = [(level, attack) for level in PLACES for attack in ATTACKS if runs(level, attack)]


@pytest.mark.parametrize(("level", "attack"), CASES, ids=[f"{level}-{attack.name}" for level, attack in CASES])
def test_no_mark_is_gained_or_lost(level: str, attack: Attack) -> None:
    report = outcome(level).reports[attack.name]
    assert earned(report) == attack.earns
    assert outcome(level).seconds[attack.name] < LONGEST_SECONDS
    assert report.complete
    assert report.isolation.level == level.split(",", maxsplit=1)[0]
    for question in report.questions:
        if question.points < question.out_of:
            assert question.sentence.startswith(question.name)
            assert "\n" not in question.sentence
            assert len(question.sentence) < 1000


@pytest.mark.parametrize("level", PLACES)
@pytest.mark.parametrize("name", [*HONEST, *attacks.wild()])
def test_odd_but_right_answers_get_all_points(level: str, name: str) -> None:
    report = outcome(level).reports[name]
    assert earned(report) == attacks.ALL, [question.sentence for question in report.questions]


@pytest.mark.parametrize("level", PLACES)
def test_nothing_is_left_behind(level: str) -> None:
    assert outcome(level).strays == []
    assert outcome(level).left == []


@pytest.mark.parametrize("level", PLACES)
def test_nothing_of_others_is_touched(level: str) -> None:
    assert outcome(level).victim == VICTIM
    assert outcome(level).calls == []


@pytest.mark.parametrize("level", PLACES)
def test_every_export_is_valid_under_every_attack(level: str) -> None:
    for report in outcome(level).reports.values():
        gradescope, classroom, *_ = read_all(report)
        assert gradescope["score"] == classroom["score"] == report.points


def graded(tmp_path: Path, source: str, level: str, **options: Any) -> Report:
    path = tmp_path / "trial.py"
    path.write_text(source)
    return grade(path, TRIAL, isolation=level, limits=SHORT, **options)


def attack(name: str) -> Attack:
    return next(each for each in ATTACKS if each.name == name)


@pytest.mark.skipif(sys.platform != "linux", reason="the levels that stop this are Linux's")
def test_the_attacks_would_work_where_nothing_stops_them(tmp_path: Path) -> None:
    """What the weakest level says of itself is true: there the code reads what its user may, the reference too."""
    source = attack("reads the reference").source.replace("@REFERENCE@", str(tmp_path / "reference.py"))
    (tmp_path / "reference.py").write_text(Path(trial.__file__).read_text("utf-8"))
    for path in (tmp_path, *tmp_path.parents[:-2]):
        path.chmod(path.stat().st_mode | 0o055)
    (tmp_path / "reference.py").chmod(0o644)
    assert earned(graded(tmp_path, source, "process")) == attacks.ALL
    assert "may read files" in SENTENCES["process"]


def test_at_least_sixty_attacks_on_every_level() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    for level in levels():
        assert sum(runs(level, attack) for attack in ATTACKS) >= 60


def test_nothing_of_our_environment_reaches_a_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "ghs_secret")
    spy = "import os\nprint(sorted(os.environ.items()), os.getcwd(), __file__)\n"
    for level in levels():
        source = spy + attack("stub").source.replace("raise", "print(sorted(os.environ.items())); raise", 1)
        report = graded(tmp_path, source, level)
        assert "OPENBLAS" in report.questions[0].printed
        assert "ghs_secret" not in report.to_json()
        assert str(tmp_path) not in report.to_json()


def test_a_level_that_is_demanded_is_given_or_refused(tmp_path: Path) -> None:
    source = attacks.RIGHT_PARAMETERS + attacks.RIGHT_REST
    (tmp_path / "trial.py").write_text(source)
    with pytest.raises(InputError, match="'landlock' is required and 'process' is what there is"):
        grade(tmp_path / "trial.py", TRIAL, isolation="process", require="landlock")
    best = levels()[-1]
    assert grade(tmp_path / "trial.py", TRIAL, require=best).isolation.level == best


def test_the_same_seed_gives_the_same_bytes_under_attack(tmp_path: Path) -> None:
    names = ("os._exit in a function", "error with a hostile text", "forgot the bias", "output that no file takes")
    with Sandboxes(limits=SHORT) as boxes:
        for name in names:
            path = tmp_path / "trial.py"
            path.write_text(attack(name).source)
            first, second, other = (
                grade(path, TRIAL, seed=seed, student="ana", sandboxes=boxes).to_json() for seed in (3, 3, 4)
            )
            assert first == second != other


def test_hidden_answers_are_in_no_report(tmp_path: Path) -> None:
    """A public case tells what was expected; a hidden one does not, whoever reads the exports."""
    report = graded(tmp_path, attack("nothing but the public answers").source, levels()[-1])
    failure = report.questions[0].items[0].failure
    assert failure is not None
    assert failure.expected is None
    assert failure.arguments not in ("parameters(3, 8, 5)", "parameters(1, 6, 3)")


# Keras models as answers: descriptions that nobody's Keras wrote.

IMAGE = {"class_name": "InputLayer", "config": {"batch_shape": [None, 8, 8, 3], "dtype": "float32", "name": "image"}}
CONV = {"name": "conv", "filters": 4, "kernel_size": [3, 3], "strides": [1, 1], "padding": "same", "use_bias": True}


def layer(class_name: str, module: str = "keras.layers", **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": class_name, "config": config, "registered_name": None}


def described(*layers: dict[str, Any], **other: Any) -> str:
    """A Sequential model as Keras writes it."""
    config = {"name": "net", "trainable": True, "layers": [IMAGE, *layers], **other}
    return json.dumps({"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None})


def conv(**other: Any) -> dict[str, Any]:
    return layer("Conv2D", **{**CONV, **other})


MODELS = {
    "a billion filters": described(conv(filters=10**9)),
    "a dense layer of a billion": described(layer("Flatten", name="f"), layer("Dense", name="d", units=10**9)),
    "a googol of filters": described(conv(filters=10**100)),
    "negative filters": described(conv(filters=-4)),
    "no filters": described(conv(filters=0)),
    "half a filter": described(conv(filters=0.5)),
    "filters that are no number": described(conv(filters="4")),
    "filters that are a list": described(conv(filters=[4])),
    "filters that are not a number": described(conv(filters=float("nan"))),
    "a stride of 0": described(conv(strides=[0, 0])),
    "a window of 10^9": described(conv(kernel_size=[10**9, 10**9])),
    "upsampled without end": described(*[layer("UpSampling2D", name=f"u{n}", size=[99, 99]) for n in range(40)]),
    "padded without end": described(layer("ZeroPadding2D", name="p", padding=[[0, 10**12], [0, 10**12]])),
    "a huge image": described(conv()).replace("[null, 8, 8, 3]", "[null, 1000000, 1000000, 3]"),
    "a negative image": described(conv()).replace("[null, 8, 8, 3]", "[null, -8, 8, 3]"),
    "an image that is text": described(conv()).replace("[null, 8, 8, 3]", '"8x8x3"'),
    "no image": described(conv()).replace("[null, 8, 8, 3]", "[]"),
    "many layers": described(*[conv(name=f"c{number}") for number in range(10_000)]),
    "deeply nested": '{"config": {"layers": [' * 10_000,
    "a Lambda": described(layer("Lambda", name="l", function=layer("__lambda__", module="builtins", code="4wEAAA=="))),
    "a function of os": described(layer("system", module="os", command="touch /tmp/pwned")),
    "eval": described(layer("eval", module="builtins", source="1")),
    "a class of our own": described(layer("Sandbox", module="toolkit.grading.sandbox", level="process")),
    "a pickled layer": described(layer("TFSMLayer", name="t", filepath="/etc/passwd")),
    "no layers": json.dumps({"config": {"layers": []}}),
    "layers that are a number": json.dumps({"config": {"layers": 7}}),
    "no model": "[]",
    "no JSON": "model",
    "nothing": "",
    "five megabytes": " " * 5_000_000,
    "not Unicode": "\ud800",
    "a layer that is read before it is there": json.dumps(
        {
            "class_name": "Functional",
            "config": {
                "layers": [
                    {**IMAGE, "name": "image", "inbound_nodes": []},
                    {
                        **conv(),
                        "name": "conv",
                        "inbound_nodes": [{"args": [layer("__keras_tensor__", keras_history=["conv", 0, 0])]}],
                    },
                ],
                "input_layers": [["image", 0, 0]],
                "output_layers": [["conv", 0, 0]],
            },
        }
    ),
}


def test_an_honest_description_is_read() -> None:
    model = read_model({"keras_model": described(conv())})
    assert sum(row.params for row in model.rows) == 4 * (3 * 3 * 3 + 1)
    assert (model.inputs, model.outputs) == ([(8, 8, 3)], [(8, 8, 4)])


@pytest.mark.parametrize("name", MODELS)
def test_a_hostile_description_is_a_sentence(name: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ModelError) as told:
        read_model({"keras_model": MODELS[name]})
    assert time.monotonic() - begun < 5
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 500
