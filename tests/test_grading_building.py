"""Exercises out of solutions: what is left out, what stays, and notebooks that every Jupyter reads."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from toolkit.arithmetic import InputError
from toolkit.grading import building
from toolkit.grading.building import Cell

ROOT = Path(__file__).parents[1]
SOLUTIONS, EXERCISES = ROOT / "solutions", ROOT / "exercises"
TEXTS = building.generate(SOLUTIONS)
STEMS = sorted(path.stem for path in SOLUTIONS.glob("ch*.py"))

SOLUTION = '''# %% [markdown]
# # Title
#
# Text with `# %%` in it.

# %%
import math


# %%
def area(radius: float) -> float:
    """The area of a circle."""
    ### BEGIN SOLUTION
    square = radius**2
    return math.pi * square
    ### END SOLUTION


class Circle:
    def __init__(self, radius: float) -> None:
        ### BEGIN SOLUTION
        self.radius = radius
        ### END SOLUTION

# %%

# %% [markdown]
# The end.
'''


def test_the_exercises_are_what_their_solutions_generate() -> None:
    stale = [path.name for path in building.stale(TEXTS, EXERCISES)]
    assert not stale, "run `python -m toolkit exercises build`"
    assert {path.name for path in EXERCISES.iterdir()} - {"README.md", "__pycache__"} == set(TEXTS)


def test_every_answer_is_left_out_and_everything_else_stays() -> None:
    stub = building.without_answers(SOLUTION)
    lines, kept = SOLUTION.splitlines(), stub.splitlines()
    assert [line for line in kept if line not in lines] == [
        "    " + building.PLACEHOLDER,
        "        " + building.PLACEHOLDER,
    ]
    gone = {line.strip() for line in lines} - {line.strip() for line in kept}
    answers = {"square = radius**2", "return math.pi * square", "self.radius = radius"}
    assert gone == {building.BEGIN, building.END, *answers}


@pytest.mark.parametrize("name", [f"{stem}.py" for stem in STEMS])
def test_an_exercise_holds_no_line_of_its_answers(name: str) -> None:
    text = (SOLUTIONS / name).read_text("utf-8")
    answers = re.findall(f"{building.BEGIN}\n(.*?){building.END}", text, re.DOTALL)
    asked = {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert answers
    assert "SOLUTION" not in TEXTS[name]
    for line in {line.strip() for answer in answers for line in answer.splitlines()} - {""}:
        assert line not in {each.strip() for each in TEXTS[name].splitlines()}, line
    stubs = {
        node.name for node in ast.walk(ast.parse(TEXTS[name])) if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    assert asked - stubs <= {"conv"}  # a helper inside of an answer


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def f():\n    ### BEGIN SOLUTION\n    return 1\n", "line 2: ### BEGIN SOLUTION has no ### END SOLUTION"),
        ("def f():\n    ### END SOLUTION\n", "line 2: ### END SOLUTION comes without a ### BEGIN SOLUTION"),
        (
            "### BEGIN SOLUTION\n### BEGIN SOLUTION\n",
            "line 2: ### BEGIN SOLUTION comes before the ### END SOLUTION of line 1",
        ),
    ],
)
def test_markers_that_do_not_match_are_named(text: str, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"ch99.py, {words}")):
        building.without_answers(text, "ch99.py")


def test_cells_are_cut_at_their_marks_and_empty_ones_are_none() -> None:
    assert building.split_cells(SOLUTION)[:2] == (
        Cell("markdown", "# Title\n\nText with `# %%` in it."),
        Cell("code", "import math"),
    )
    kinds = [cell.kind for cell in building.split_cells(SOLUTION)]
    assert kinds == ["markdown", "code", "code", "markdown"]


@pytest.mark.parametrize("stem", STEMS)
def test_a_notebook_keeps_to_its_format(stem: str) -> None:
    """The rules of nbformat 4.5 for what these notebooks have."""
    notebook = json.loads(TEXTS[f"{stem}.ipynb"])
    assert set(notebook) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    names = [cell["id"] for cell in notebook["cells"]]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names)
    for cell in notebook["cells"]:
        code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | code
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        assert not cell["source"][-1].endswith("\n")


@pytest.mark.parametrize("stem", STEMS)
def test_a_notebook_holds_the_code_of_its_file(stem: str) -> None:
    notebook = json.loads(TEXTS[f"{stem}.ipynb"])
    code = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    assert ast.dump(ast.parse(code)) == ast.dump(ast.parse(TEXTS[f"{stem}.py"]))


def test_an_edit_of_one_cell_changes_the_id_of_no_other() -> None:
    cells = [Cell("code", "1"), Cell("code", "2"), Cell("code", "1"), Cell("markdown", "1")]
    before = [cell["id"] for cell in building.notebook(cells)["cells"]]
    after = [cell["id"] for cell in building.notebook([cells[0], Cell("code", "3"), *cells[2:]])["cells"]]
    assert len(set(before)) == 4
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True, True]


def test_building_writes_what_is_stale_and_nothing_twice(tmp_path: Path) -> None:
    solutions, exercises = tmp_path / "solutions", tmp_path / "exercises"
    solutions.mkdir()
    (solutions / "ch99_circles.py").write_text(SOLUTION, "utf-8")
    (solutions / "__init__.py").touch()
    first = building.build(solutions, exercises)
    assert [path.name for path in first] == ["ch99_circles.py", "ch99_circles.ipynb"]
    written = {path: path.read_bytes() for path in first}
    assert building.build(solutions, exercises) == []
    first[0].write_bytes(written[first[0]].replace(b"\n", b"\r\n"))
    assert building.build(solutions, exercises) == [first[0]]
    assert {path: path.read_bytes() for path in first} == written


def test_a_folder_without_solutions_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no solution"):
        building.generate(tmp_path)
