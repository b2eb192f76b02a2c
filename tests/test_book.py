"""The book's sources: numbers are computed, pictures described, links lead somewhere, and nothing is written twice."""

import ast
import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import toolkit
from toolkit import architectures, arithmetic
from toolkit.batches import calculate_max_batch_size, plan_batches
from toolkit.book_support import NOT_YET, Result, all_measured, measured
from toolkit.costs import costs, trace
from toolkit.errors import InputError

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "book"
PAGES = sorted(BOOK.glob("*.md"))
CHAPTERS = [page for page in PAGES if re.match(r"ch\d\d_", page.name)]
NAMES = [page.stem for page in PAGES]
CONTENTS = set(re.findall(r"(?:file|root): (\S+)", (BOOK / "_toc.yml").read_text("utf-8")))
sys.path[:0] = [str(BOOK / "_ext"), str(BOOK / "_static")]

calculators, exercise_pages, prepare = map(import_module, ("calculators", "exercise_pages", "prepare"))

FENCE = re.compile(r"^(`{3,}|~{3,})(.*?)\n(.*?)^\1`*\s*$", re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """The words of a page: no front matter, code, formulae, roles, addresses and options of directives."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = FENCE.sub("", text)
    text = re.sub(r"\{cite:[pt]\}`[^`]+`", "(cited)", text)
    text = re.sub(r"\{\w[\w:]*\}`[^`]+`", "…", text)
    return re.sub(r"`[^`]*`|\$[^$]*\$|\]\([^)]*\)|^:\w+:.*$", "", text, flags=re.MULTILINE)


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?:|])\s+", " ".join(text.split("\n")))


def cells(page: Path) -> list[str]:
    """The code of a page's cells, without their options."""
    found = (body for _, head, body in FENCE.findall(page.read_text("utf-8")) if head.startswith("{code-cell}"))
    return [re.sub(r"\A(:[\w-]+:.*\n)+\n?", "", body) for body in found]


# Numbers.

MEASURED = re.compile(
    r"""(?<![\w.])(
        \d{1,3}(,\d{3})+ | \d+\.\d+ |
        \d+(?=\s*(%|per\ cent|percent|times\b|ms\b|s\b|seconds?\b|minutes?\b|hours?\b|[kMGT]i?B\b|images\ a\ second
            |parameters\b|weights\b|MACs\b|FLOPs\b|points?\b|percentage))
    )""",
    re.VERBOSE,
)
# What a convention says, and no measurement: "1 MAC is 2 FLOPs".
CONVENTION = re.compile(r"\bis 2 FLOPs\b|9 weights\b|one weight\b")


def typed_by_hand(text: str) -> list[str]:
    """Sentences with a numeral that claims a measurement and is neither computed nor cited."""
    return [
        said
        for said in sentences(prose(text))
        if MEASURED.search(said) and "(cited)" not in said and not CONVENTION.search(said)
    ]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_numbers_in_prose_are_computed(page: Path) -> None:
    assert typed_by_hand(page.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The network has 903,400 parameters.", True),
        ("It took 12 seconds.", True),
        ("That is 3.4 of them.", True),
        ("The stream reached 97 % of it.", True),
        ("The network has {eval}`f'{n:,}'` parameters.", False),
        ("VGG16 has 138 million, or 15.5 G, of them {cite:p}`vgg`.", False),
        ("Windows of 3 × 3 and a batch of 20 images.", False),
        ("```python\nx = 903.4\n```\nand $x = 1.5$.", False),
    ],
)
def test_what_counts_as_a_number_typed_by_hand(text: str, found: bool) -> None:
    assert bool(typed_by_hand(text)) is found


def test_results_that_are_there_are_read_and_say_where_they_come_from() -> None:
    memory = measured("memory")
    assert memory
    assert memory.row("ResNet-50 by arithmetic")["unit"] == "ms"
    assert "python -m toolkit bench memory" in memory.origin
    assert memory.origin.startswith("Measured on ")
    assert all(result.report and result.report["name"] == result.name for result in all_measured())


def test_a_result_that_is_not_there_says_so(tmp_path: Path) -> None:
    nothing = measured("zoo", tmp_path)
    assert not nothing
    assert nothing.text("anything") == NOT_YET
    assert nothing.rows() == []
    assert "python -m toolkit bench zoo" in nothing.origin


def test_a_row_that_is_not_in_a_report_is_an_error() -> None:
    empty = Result("memory", {"rows": [], "checks": []})
    with pytest.raises(InputError, match="no row 'small_cnn'"):
        empty.row("small_cnn")
    with pytest.raises(InputError, match="no promise"):
        empty.check("share")


# Pictures.


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_pictures_are_described(page: Path) -> None:
    text = page.read_text("utf-8")
    for _, head, body in FENCE.findall(text):
        if head.startswith(("{figure}", "{image}")):
            alt = re.search(r"^:alt:\s*(.+)$", body, re.MULTILINE)
            assert alt, f"{head} has no :alt:"
            assert len(alt[1].split()) > 5, f"{head}: {alt[1]!r} says too little"
    for alt_text in re.findall(r"!\[([^\]]*)\]\(", FENCE.sub("", text)):
        assert len(alt_text.split()) > 5


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_cells_draw_without_pyplot_which_knows_no_descriptions(page: Path) -> None:
    for code in cells(page):
        assert "pyplot" not in code
        assert "plt." not in code


# Links.


def labels() -> set[str]:
    """What can be referred to: labels of sections, equations, exercises and figures."""
    found = set()
    for page in [*PAGES, *FRAGMENTS.values()]:
        text = page if isinstance(page, str) else page.read_text("utf-8")
        found |= set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))
        found |= set(re.findall(r"^:(?:label|name): ([\w-]+)$", text, re.MULTILINE))
    return found


FRAGMENTS = exercise_pages.fragments()
LABELS = labels()
CITED = set(re.findall(r"^@\w+\{(\w+),", (BOOK / "references.bib").read_text("utf-8"), re.MULTILINE))
TERMS = set(re.findall(r"^([\w][\w -]*)\n: \w", (BOOK / "terms.md").read_text("utf-8"), re.MULTILINE))


def broken(text: str) -> Iterator[str]:
    """References that lead nowhere."""
    known = {"ref": LABELS, "eq": LABELS, "numref": LABELS, "term": TERMS, "cite:p": CITED, "cite:t": CITED}
    for role, said in re.findall(r"\{([\w:]+)\}`([^`]+)`", re.sub(r"\{eval\}`[^`]+`", "", text)):
        target = found[1] if (found := re.search(r"<([^>]+)>$", said)) else said
        for one in target.split(",") if role.startswith("cite") else [target]:
            if role in known and one.strip() not in known[role]:
                yield f"{{{role}}}`{said}`"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_references_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    assert list(broken(FENCE.sub("", text))) == []
    for address in re.findall(r"\]\(([^)#]+)\)", FENCE.sub("", text)):
        if not re.match(r"https?://|mailto:", address):
            assert (page.parent / address).exists(), address


def test_every_page_is_in_the_table_of_contents() -> None:
    assert set(NAMES) == CONTENTS


@pytest.mark.parametrize("page", CHAPTERS, ids=[page.stem for page in CHAPTERS])
def test_a_chapter_has_all_that_a_chapter_has(page: Path) -> None:
    text, number = page.read_text("utf-8"), page.stem[:4]
    assert f"\n({number})=\n# Chapter {int(number[2:])}: " in text
    for heading in ("## Check yourself", "## Exercises", "## Summary", "## Further reading"):
        assert f"\n{heading}\n" in text
    assert "**You will be able to**" in text
    questions = text.partition("## Check yourself")[2].partition("\n## ")[0]
    assert questions.count(":::{dropdown}") == 3
    assert f"{{include}} _generated/{page.stem}_exercises.md" in text


def test_every_public_name_is_in_a_chapter() -> None:
    chapters = "\n".join(page.read_text("utf-8") for page in CHAPTERS)
    assert [name for name in toolkit.__all__ if not re.search(rf"\b{name}\b", chapters)] == []


def test_every_question_is_reached_from_its_chapter_and_from_the_list_of_all() -> None:
    for page in CHAPTERS:
        here = set(re.findall(r"^:label: (ch\d\d-q\d+)$", FRAGMENTS[f"{page.stem}_exercises.md"], re.MULTILINE))
        titles = re.findall(r"^# ## \d+\. ", (ROOT / "solutions" / f"{page.stem}.py").read_text("utf-8"), re.MULTILINE)
        assert len(here) == len(titles) > 0
        assert here <= set(re.findall(r"<(ch\d\d-q\d+)>", FRAGMENTS["exercise_list.md"]))


# Code.


def shape_of(function: ast.FunctionDef) -> str:
    """A function without its name, docstring and annotations: what two copies have in common."""
    copy = ast.parse(ast.unparse(function)).body[0]
    assert isinstance(copy, ast.FunctionDef)
    copy.name = "f"
    copy.returns = None
    if ast.get_docstring(copy) is not None:
        copy.body = copy.body[1:]
    for argument in ast.walk(copy):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return ast.dump(copy)


def functions(code: str) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef))


def test_no_function_of_the_book_is_one_of_the_toolkit() -> None:
    toolkit = {
        shape_of(function): f"{path.stem}.{function.name}"
        for path in (ROOT / "toolkit").rglob("*.py")
        for function in functions(path.read_text("utf-8"))
        if len(function.body) > 1 or not isinstance(function.body[0], ast.Return | ast.Pass)
    }
    code = {page.stem: "\n".join(cells(page)) for page in PAGES}
    code |= {path.stem: path.read_text("utf-8") for path in BOOK.glob("_*/*.py")}
    twice = [
        f"{name}: {function.name} is {toolkit[shape_of(function)]}"
        for name, text in code.items()
        for function in functions(text)
        if shape_of(function) in toolkit
    ]
    assert twice == []


def test_a_copy_is_found_under_another_name() -> None:
    one, two = "def f(x):\n    '''Say.'''\n    y = x\n    return y", "def g(x: int) -> int:\n    y = x\n    return y"
    assert [shape_of(f) for f in functions(one)] == [shape_of(f) for f in functions(two)]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_code_fits_a_narrow_page(page: Path) -> None:
    wide = [line for code in cells(page) for line in code.splitlines() if len(line) > 76]
    assert wide == []


def test_the_exercises_in_the_book_fit_a_narrow_page_and_hide_no_answer() -> None:
    pytest.importorskip("ruff", reason="the book's code is formatted by ruff, which is not here")
    for name, text in FRAGMENTS.items():
        assert "SOLUTION" not in text, name
        for _, _, body in re.findall(r"(```)(python)\n(.*?)```", text, re.DOTALL):
            assert max(map(len, body.splitlines())) <= 120, name
            ast.parse(body)


def run_cells(page: Path) -> dict[str, Any]:
    """What the cells of a page define when they run from top to bottom, those that start TensorFlow left out."""
    names: dict[str, Any] = {"display": str}
    for code in cells(page):
        if "measure_memory" in code:
            break
        exec(compile(code, page.name, "exec"), names)
    return names


def test_the_cells_of_a_chapter_run_and_give_the_numbers_of_its_sentences() -> None:
    page = BOOK / "ch02_parameters.md"
    names = run_cells(page)
    assert names["priced"].params == 903_400
    text = page.read_text("utf-8").partition("measure_memory")[0]
    for expression in re.findall(r"\{eval\}`([^`]+)`", text):
        if "numpy_bytes" not in expression:
            assert str(eval(expression, names))
    assert eval('f"{3 * 3 * (100 + 200 + 400):,}"', names) == "6,300"


# Calculators: the same numbers as the toolkit's.


def answered(name: str, **values: Any) -> dict[str, Any]:
    return {words: number for words, number, _ in json.loads(calculators.answer(name, json.dumps(values)))}


def test_the_calculator_of_a_layer_is_the_toolkit() -> None:
    row = trace(architectures.three_layers((720, 1280, 3)))[1]
    found = answered(
        "layer", height=720, width=1280, channels=3, filters=100, window=3, stride=2, dilation=1, padding="same"
    )
    assert found == {
        "output": "360 × 640 × 100",
        "parameters": row.params,
        "MACs for one image": row.macs,
        "output in float32": row.activation_bytes(),
    }


def test_a_layer_that_does_not_fit_is_answered_with_a_sentence() -> None:
    found = answered(
        "layer", height=8, width=8, channels=3, filters=1, window=11, stride=1, dilation=1, padding="valid"
    )
    assert "does not fit" in found["this does not work"]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize(("optimizer", "batch"), [("sgd", 1), ("adam", 20)])
def test_the_calculator_of_memory_is_the_toolkit(dtype: str, optimizer: str, batch: int) -> None:
    priced = costs(architectures.three_layers((720, 1280, 3)), batch, dtype, optimizer)
    found = answered("memory", size="720 × 1280", batch=batch, dtype=dtype, optimizer=optimizer)
    assert found["parameters"] == priced.params
    assert found["a prediction needs"] == priced.inference_bytes
    assert found["a training step needs"] == priced.training_bytes
    assert found["feature maps"] == priced.training_parts["activations"]


def test_the_calculator_of_receptive_fields_is_the_toolkit() -> None:
    seen = [row.receptive_field[0] for row in trace(architectures.three_layers())[1:]]
    assert list(answered("field", layers=3, window=3, stride=2, dilation=1).values()) == seen


PLANS = [("resnet18", 3, 64), ("resnet18", 2, 300), ("vgg16", 16, 5)]


@pytest.mark.parametrize(("network", "gigabytes", "wanted"), PLANS)
def test_the_calculator_of_batches_is_the_planner(network: str, gigabytes: int, wanted: int) -> None:
    net = architectures.architecture(network)
    data = {"shape": net.input_shape, **prepare.peaks(network)}
    calculators.load(json.dumps({"batches": prepare.BATCHES, "networks": {network: data}}))
    plan = plan_batches(net, wanted, gigabytes * 10**9, execution="onednn")
    found = answered("planner", network=network, gigabytes=gigabytes, wanted=wanted, optimizer="adam")
    assert found["batch that fits"] == plan.batch_size
    assert found["batches for one update"] == plan.accumulation_steps
    assert found["predicted peak of the process"] == plan.predicted_bytes
    naive = calculate_max_batch_size((224, 224), 3, 4, available=gigabytes * 10**9)
    assert found["the naive formula says"] == naive


def test_the_calculators_offer_what_they_can_answer() -> None:
    for name in ("layer", "field", "memory"):
        values = {field["name"]: field["value"] for field in json.loads(calculators.ask(name))}
        assert answered(name, **values)
    assert calculators.arithmetic is arithmetic
