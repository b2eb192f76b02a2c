import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.architectures import ARCHITECTURES, architecture, three_layers
from toolkit.arithmetic import InputError
from toolkit.costs import costs, trace
from toolkit.layers import Architecture, Branches, Conv2D
from toolkit.memory_reports import peaks
from toolkit.show import (
    diagram,
    markdown,
    memory_cells,
    parse_bytes,
    readable_bytes,
    readable_count,
    table,
    table_cells,
    told,
)


def test_the_golden_table() -> None:
    assert table(costs(three_layers((200, 300, 3)), batch=20)) == (
        """\
three_layers, input 200 × 300 × 3
-----------------------------------------------------------------------------------------
layer        type        output           parameters           MACs  activations     sees
-----------------------------------------------------------------------------------------
input_layer  InputLayer  200 × 300 × 3             0              0      14.4 MB    1 × 1
conv1        Conv2D      100 × 150 × 100       2,800     40,500,000       120 MB    3 × 3
conv2        Conv2D      50 × 75 × 200       180,200    675,000,000      60.0 MB    7 × 7
conv3        Conv2D      25 × 38 × 400       720,400    684,000,000      30.4 MB  15 × 15
-----------------------------------------------------------------------------------------
total                                        903,400  1,399,500,000       225 MB

parameters     903,400 (903,400 trainable)
MACs an image  1.40 G (1 MAC = 2 FLOPs)
weights        3.61 MB (float32)
inference      184 MB (batch 20, float32: weights and activations alive at once)
training       239 MB (batch 20, float32, adam: weights 3.61 MB, gradients 3.61 MB, optimizer 7.23 MB, """
        "activations 210 MB, input 14.4 MB)"
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_columns_of_numbers_add_up_to_their_totals(name: str) -> None:
    cells = table_cells(costs(architecture(name)))
    for column in (3, 4):
        numbers = [int(line[column].replace(",", "")) for line in cells[1:]]
        assert sum(numbers[:-1]) == numbers[-1]


def test_markdown_is_one_table_with_equal_columns() -> None:
    lines = [line for line in markdown(costs(three_layers())).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + 4 + 1


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (999_500, "1.00 MB"), (10**18, "1000 PB")]
)
def test_bytes(count: int, text: str) -> None:
    assert readable_bytes(count) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *(("4GiB", 2**32), (" 4 gib ", 2**32), ("800MB", 800 * 10**6), ("1.5 GB", 1_500_000_000), ("64KiB", 2**16)),
        *(("12", 12), ("12 B", 12), ("0.5KiB", 512), ("2TB", 2 * 10**12), ("3kB", 3000)),
    ],
)
def test_bytes_as_people_write_them(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "4G", "GiB", "-4GiB", "0GB", "4 GiB free", "nan", "1e9", "9" * 30, "4iB"])
def test_bytes_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="memory is written like 4GiB"):
        parse_bytes(text)


@given(st.integers(1, 999), st.sampled_from(["MB", "MiB"]))
def test_readable_bytes_are_read_back(count: int, unit: str) -> None:
    size = count * {"MB": 10**6, "MiB": 2**20}[unit]
    assert parse_bytes(readable_bytes(size, unit)) == pytest.approx(size, rel=0.005)


@given(st.integers(1, 10**15))
def test_readable_counts_are_within_half_a_percent(count: int) -> None:
    number, _, unit = readable_count(count).partition(" ")
    scale = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}[unit]
    assert float(number) * scale == pytest.approx(count, rel=0.005)
    assert len(number.replace(".", "")) <= 3


def test_an_unknown_unit_is_a_sentence() -> None:
    with pytest.raises(InputError, match="unit must be one of MB, MiB; 'GB' came"):
        readable_bytes(1, "GB")


def test_the_golden_diagram_of_an_inception_block() -> None:
    paths = ((Conv2D(4, 1),), (Conv2D(2, 1), Conv2D(4, 3, padding="same")), ())
    net = Architecture("block", (8, 8, 4), (Branches("concatenate", paths), Conv2D(2, 1)))
    assert diagram(net) == (
        "●      input_layer  InputLayer   8 × 8 × 4\n"
        "├─╮\n"
        "│ ●    conv2d       Conv2D       8 × 8 × 4   20 parameters\n"
        "├─┼─╮\n"
        "│ │ ●  conv2d_1     Conv2D       8 × 8 × 2   10 parameters\n"
        "│ │ ●  conv2d_2     Conv2D       8 × 8 × 4   76 parameters\n"
        "├─┴─╯\n"
        "●      concatenate  Concatenate  8 × 8 × 12\n"
        "●      conv2d_3     Conv2D       8 × 8 × 2   26 parameters"
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_diagram_has_a_dot_for_each_row_and_lanes_that_close(name: str) -> None:
    rows = trace(architecture(name))
    lines = diagram(rows).splitlines()
    dots = [line for line in lines if "●" in line]
    assert [re.search(r"●[ │]*(\S+)", line)[1] for line in dots] == [row.name for row in rows]  # type: ignore[index]
    assert lines[-1].startswith("● ")
    assert "│" not in lines[-1].split(rows[-1].name)[0]


def test_predicted_peaks_stand_below_the_totals_and_in_the_json() -> None:
    price = costs(architecture("lenet5"), batch=32)
    estimates = peaks(architecture("lenet5"), 32)
    assert table(price, *estimates).startswith(table(price))
    assert [line[:14].strip() for line in table(price, *estimates).splitlines()[-2:]] == [
        "inference peak",
        "training peak",
    ]
    assert "**training peak**" in markdown(price, *estimates)
    data = told(price, *estimates)
    assert {key: data[key] for key in price.to_dict()} == price.to_dict()
    assert data["predicted"] == {"inference": estimates[0].to_dict(), "training": estimates[1].to_dict()}
    assert "predicted" not in told(price)


def test_where_the_bytes_go_adds_up() -> None:
    (_, estimate) = peaks(architecture("resnet50"), 8)
    cells = memory_cells(estimate)
    assert [line[1] for line in cells[-3:]] == [
        readable_bytes(size) for size in (estimate.peak_bytes, estimate.framework_bytes, estimate.process_bytes)
    ]
    shares = [int(line[2].removesuffix("%")) for line in cells[:-3]]
    assert abs(sum(shares) - 100) <= len(shares)
