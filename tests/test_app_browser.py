"""The app as a visitor meets it: real Chromium, real clicks, real training."""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.app_server import Server, serving
from tests.photo_files import picture
from toolkit.architectures import resnet50, small_cnn
from toolkit.batches import plan_batches
from toolkit.costs import costs

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
pytestmark = [pytest.mark.app, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")]

# Seconds that something may take on a machine that does other things too.
SOON, LONG = 15_000, 90_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("app")) as server:
        yield server
        log = server.log.read_text("utf-8")
        assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A tab, and what went wrong in it: errors on the console and requests to foreign hosts."""

    page: "Page"
    home: str
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def listen(self) -> None:
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._see)

    def _hear(self, said: "ConsoleMessage") -> None:
        if said.type == "error":
            self.errors.append(said.text)

    def _see(self, request: "Request") -> None:
        if not request.url.startswith((self.home, "data:", "blob:")):
            self.foreign.append(request.url)

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def choose(self, label: str, option: str) -> None:
        """In the first dropdown with this label."""
        self.page.get_by_label(label, exact=True).first.click()
        self.page.get_by_role("option", name=option, exact=True).click()


@pytest.fixture
def visit(server: Server, browser: "Browser") -> Iterator[Callable[..., Visit]]:
    """Open the page in a new window; at the end nothing may have gone wrong in any of them."""
    visits: list[Visit] = []

    def open_page(query: str = "", width: int = 1280, dark: bool = False) -> Visit:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            has_touch=width < 500,
        )
        visit = Visit(context.new_page(), server.url)
        visit.listen()
        visit.page.goto(server.url + query)
        visit.page.locator("#totals .figure").first.wait_for(timeout=LONG)
        visits.append(visit)
        return visit

    yield open_page
    for each in visits:
        each.page.context.close()
        assert [error for error in each.errors if not STREAM_CUT.search(error)] == []
        assert each.foreign == []


# What Gradio's client says when a page is left while it listens to a stream.
STREAM_CUT = re.compile("AbortError|Connection errored out")


def test_price_resnet50(visit: Callable[..., Visit]) -> None:
    here = visit()
    page = here.page
    assert "parameters" in page.locator("#layers").inner_text()
    here.choose("Network", "ResNet-50")
    page.get_by_text("25,636,712").first.wait_for(timeout=SOON)
    assert page.locator("#layers tbody tr").count() == 178
    here.tab("Drawing")
    page.locator("#drawing svg rect").nth(50).wait_for(timeout=SOON)
    page.get_by_label("Batch", exact=True).fill("32")
    page.get_by_text("32 images").first.wait_for(timeout=SOON)


def test_a_bad_size_gets_a_sentence_and_the_next_good_one_an_answer(visit: Callable[..., Visit]) -> None:
    here = visit()
    page = here.page
    here.choose("Network", "LeNet-5")
    page.get_by_text("61,706").first.wait_for(timeout=SOON)
    page.wait_for_timeout(300)
    page.get_by_label("Input size").fill("3x3x1")
    page.locator("#price-problem .message", has_text="does not fit").wait_for(timeout=SOON)
    page.get_by_label("Input size").fill("a lot")
    page.locator("#price-problem .message", has_text="written like").wait_for(timeout=SOON)
    page.get_by_label("Input size").fill("32x32x1")
    page.locator("#price-problem .message").wait_for(state="detached", timeout=SOON)


def test_layers_can_be_changed_and_shared(visit: Callable[..., Visit], server: Server) -> None:
    here = visit()
    page = here.page
    here.choose("Network", "LeNet-5")
    page.get_by_text("61,706").first.wait_for(timeout=SOON)
    here.tab("Edit")
    page.locator("#editor [role=gridcell]").get_by_text("120", exact=True).dblclick()
    page.keyboard.press("Control+A")
    page.keyboard.type("60")
    page.keyboard.press("Enter")
    page.locator("#totals .figure", has_text="61,706").first.wait_for(state="detached", timeout=SOON)
    params = page.locator("#totals .figure").first.inner_text()
    assert page.get_by_label("Network", exact=True).input_value() == "own layers"
    here.tab("Share")
    link = page.locator("#link input, #link textarea").input_value()
    assert link.startswith(server.url)
    page.get_by_label("Keras code").click()
    page.locator("#export", has_text="import keras").wait_for(timeout=SOON)
    again = visit(link.removeprefix(server.url)).page
    again.locator("#totals .figure", has_text=params).first.wait_for(timeout=SOON)


def test_links_are_read_and_damaged_ones_get_a_sentence(visit: Callable[..., Visit]) -> None:
    page = visit("?network=resnet50&input=224x224x3&batch=20&dtype=float16&optimizer=sgd").page
    page.get_by_text("25,636,712").first.wait_for(timeout=SOON)
    page.get_by_text("20 images").first.wait_for(timeout=SOON)
    damaged = visit("?design=AAAA").page
    damaged.locator("#price-problem .message", has_text="does not hold a network").wait_for(timeout=SOON)


def test_a_file_that_is_no_model_gets_a_sentence(visit: Callable[..., Visit], tmp_path: Path) -> None:
    page = visit().page
    (tmp_path / "no.keras").write_text("no model")
    page.locator("input[accept='.keras']").set_input_files(tmp_path / "no.keras")
    page.locator("#price-problem .message", has_text="is not a .keras model").wait_for(timeout=SOON)


def test_measure_what_was_predicted(visit: Callable[..., Visit], server: Server) -> None:
    here = visit()
    page = here.page
    here.choose("Network", "ResNet-50")
    page.get_by_label("Batch", exact=True).fill("100000")
    page.get_by_text("100000 images").first.wait_for(timeout=SOON)
    page.locator("#measure").click()
    page.locator("#measured .message", has_text="a measurement may have").wait_for(timeout=SOON)
    here.choose("Network", "Small CNN")
    page.get_by_label("Batch", exact=True).fill("16")
    page.locator("#totals", has_text="batch 16").wait_for(timeout=SOON)
    page.locator("#measure").click()
    page.locator("#measured", has_text="a new process imports Keras").wait_for(timeout=SOON)
    page.get_by_label("Batch", exact=True).fill("17")
    page.get_by_text("17 images").first.wait_for(timeout=SOON)  # the page goes on meanwhile
    found = page.locator("#measured figure")
    found.wait_for(timeout=LONG)
    assert "one training step of small_cnn, batch 16, float32, adam" in found.inner_text()
    ratio = float(found.locator(".figure").last.inner_text())
    assert 0.2 < ratio < 3
    if (maps := Path(f"/proc/{server.pid}/maps")).exists():
        assert "tensorflow" not in maps.read_text()
    assert list(server.log.parent.glob("cnn-toolkit-jobs-*/measurement-*")) == []
    assert page.evaluate(PALE_TEXTS) == []


def test_plan_a_batch(visit: Callable[..., Visit]) -> None:
    here = visit()
    page = here.page
    here.tab("Batch planner")
    chosen = page.locator("#plan rect.chosen")
    chosen.wait_for(state="attached", timeout=SOON)
    page.get_by_label("Memory limit in GiB").fill("4")
    plan = plan_batches(resnet50(), 300, 4 * 2**30)
    line = f"{plan.batch_size} × {plan.accumulation_steps} = {plan.effective_batch}"
    page.locator("#plan .run.real", has_text=line).wait_for(timeout=SOON)
    page.locator("#plan .level.limit").wait_for(state="attached", timeout=SOON)
    assert plan.why in page.locator("#plan .summary").inner_text()
    assert "times the limit" in page.locator("#plan .run.naive").inner_text()
    page.get_by_label("Memory limit in GiB").fill("0.1")
    page.locator("#plan-problem .message", has_text="give a limit of").wait_for(timeout=SOON)
    page.get_by_label("Memory limit in GiB").fill("4")
    page.locator("#plan-problem .message").wait_for(state="detached", timeout=SOON)
    here.choose("Network to train", "Small CNN")
    page.locator("#plan .run.real", has_text="no accumulation").wait_for(timeout=SOON)
    assert page.get_by_label("Image size").input_value() == "28x28x1"
    page.get_by_label("by arithmetic").check()
    page.locator("#find").click()
    page.locator("#found tbody tr").wait_for(timeout=SOON)
    page.get_by_label("by measuring").check()
    page.locator("#find").click()
    page.locator("#finding", has_text="Measuring").wait_for(timeout=SOON)
    page.locator("#stop-finding").click()
    page.locator("#finding .message", has_text="stopped before it was done").wait_for(timeout=SOON)
    page.reload()
    here.tab("Batch planner")
    page.locator("#found tbody tr").wait_for(timeout=SOON)
    assert page.locator("#found tbody tr").count() == 1  # what was found before is still there


def test_train_two_models_stop_one_and_ask_them(visit: Callable[..., Visit]) -> None:
    here = visit()
    page = here.page
    here.tab("Predict")
    page.locator("#invitation .message").wait_for(timeout=SOON)
    here.tab("Train two")
    assert "101,770" in page.locator("#forecast-a").inner_text()
    page.get_by_label("Learning rate").first.fill("0")
    page.locator("#train").click()
    page.locator("#train-problem .message", has_text="learning_rate must be a number above 0").wait_for(timeout=SOON)
    page.get_by_label("Learning rate").first.fill("0.002")
    here.choose("Batch size", "8")
    page.get_by_label("number input for Epochs").first.fill("25")
    page.get_by_label("number input for Channels").last.fill("64")
    page.get_by_label("number input for Epochs").last.fill("30")
    page.locator("#forecast-b", has_text=f"{costs(small_cnn(channels=64)).params:,}").wait_for(timeout=SOON)
    page.locator("#train").click()
    both_curves_move(page)
    stranger = visit()
    stranger.tab("Train two")
    assert "ready" in stranger.page.locator("#live").inner_text()
    page.reload()
    here.tab("Train two")
    both_curves_move(page, ("b",))
    page.locator("#stop-b").click()
    page.locator(".run.b", has_text="stopped by you").wait_for(timeout=SOON)
    page.locator("#results table").first.wait_for(timeout=LONG)
    assert re.search(r"Predicted / peak\s+[0-2]\.\d\d\s+[0-2]\.\d\d", page.locator("#results").inner_text())
    assert re.search(r"Epochs\s+25 of 25\s+\d+ of 30", page.locator("#results").inner_text())
    assert page.evaluate(PALE_TEXTS) == []
    with page.expect_download() as download:
        page.get_by_role("button", name="run.py").first.click()
    assert "keras" in Path(download.value.path()).read_text("utf-8")
    ask_the_models(here)
    page.reload()
    here.tab("Predict")
    page.locator("#answers .run.b").wait_for(timeout=SOON)


def both_curves_move(page: "Page", models: tuple[str, ...] = ("a", "b")) -> None:
    """Wait until the training curve of each model has grown twice."""
    for model in models:
        line = page.locator(f"#live polyline.{model}").first
        line.wait_for(state="attached", timeout=LONG)
        for _ in range(2):
            before = points(line)
            page.wait_for_function(
                "([model, before]) => document.querySelector(`#live polyline.${model}`)"
                "?.getAttribute('points').trim() !== before",
                arg=[model, before],
                timeout=LONG,
            )


def points(line: "Locator") -> str:
    return (line.get_attribute("points") or "").strip()


def ask_the_models(here: Visit) -> None:
    """Pick a test image, then draw a seven."""
    page = here.page
    here.tab("Predict")
    here.choose("Which", "All, in order")
    page.locator("#album button").nth(35).wait_for(timeout=SOON)
    page.locator("#album button").nth(4).click()
    truth = page.locator("#album button[aria-pressed=true] .truth").inner_text()
    page.locator("#answers", has_text=f"true class: {truth}").wait_for(timeout=SOON)
    assert page.locator("#answers .run").count() == 2
    assert page.evaluate(PALE_TEXTS) == []
    here.tab("Draw")
    draw(page, [(80, 60), (195, 60), (130, 225)])
    page.locator("#answers", has_text="true class").wait_for(state="detached", timeout=SOON)
    assert "7" in page.locator("#answers .run.b").inner_text()
    page.locator("#pad button").click()


def draw(page: "Page", corners: list[tuple[int, int]]) -> None:
    box = page.locator("#pad canvas").bounding_box()
    assert box is not None
    first, *others = [(box["x"] + x, box["y"] + y) for x, y in corners]
    page.mouse.move(*first)
    page.mouse.down()
    for corner in others:
        page.mouse.move(*corner, steps=8)
    page.mouse.up()


def test_fine_tune_on_photos_stop_and_ask(visit: Callable[..., Visit], tmp_path: Path) -> None:
    here = visit()
    page = here.page
    here.tab("Your photos")
    page.locator("#finetune").click()
    page.locator("#finetune-problem .message", has_text="there are no photos yet").wait_for(timeout=SOON)
    (tmp_path / "mine.zip").write_bytes(b"this is no zip")
    page.locator("#photos-zip input").set_input_files(tmp_path / "mine.zip")
    page.locator("#report .message.problem", has_text="the zip file is damaged or is none").wait_for(timeout=LONG)
    page.locator("#photos-example").click()
    page.locator("#report .problems", has_text="left out: nobody knows which is right").wait_for(timeout=LONG)
    assert page.locator("#report img").count() > 20
    assert page.evaluate(PALE_TEXTS) == []
    page.get_by_label("random", exact=True).check()
    here.choose("Image size", "96 × 96")
    page.get_by_label("number input for Epochs of the last blocks").fill("40")
    page.locator("#finetune-forecast", has_text="Random first weights").wait_for(timeout=SOON)
    page.locator("#finetune").click()
    page.locator("#finetune-live circle").nth(1).wait_for(state="attached", timeout=LONG)
    page.reload()
    here.tab("Your photos")
    page.locator("#report .problems").wait_for(timeout=SOON)
    page.locator("#finetune-live circle").nth(1).wait_for(state="attached", timeout=SOON)
    page.locator("#finetune-stop").click()
    results = page.locator("#finetune-results")
    results.locator(".confusion").wait_for(timeout=LONG)
    assert "Wilson" in results.inner_text()
    page.locator("#mistakes .photo-pair img").nth(3).wait_for(timeout=LONG)
    assert page.evaluate(PALE_TEXTS) == []
    with page.expect_download() as download:
        page.get_by_role("button", name="README.md").click()
    assert "zero" in Path(download.value.path()).read_text("utf-8")
    picture(1).save(tmp_path / "mine.png")
    (tmp_path / "text.png").write_text("no picture")
    page.locator("#try-photos input").set_input_files([tmp_path / "mine.png", tmp_path / "text.png"])
    answers = page.locator("#photo-answers .photo-answer")
    answers.nth(1).wait_for(timeout=LONG)
    assert re.search(r"mine.*%", answers.first.inner_text(), re.DOTALL)
    assert "none of JPEG" in answers.nth(1).inner_text()


def test_train_two_networks_to_label_pixels_and_ask_them(visit: Callable[..., Visit], tmp_path: Path) -> None:
    here = visit()
    page = here.page
    here.tab("Label pixels")
    assert "Nothing is trained yet" in page.locator("#segment-invitation").inner_text()
    for network in ("FCN-32s", "FCN-8s"):
        page.get_by_label(network, exact=True).uncheck()
    page.locator("#segment-forecast .message", has_text="one to 5 networks").wait_for(timeout=SOON)
    page.locator("#segment").click()
    page.locator("#segment-problem .message", has_text="one to 5 networks").wait_for(timeout=SOON)
    for network in ("FCN-32s", "FCN-8s"):
        page.get_by_label(network, exact=True).check()
    page.get_by_role("button", name="More").last.click()
    page.get_by_label("number input for Channels of the first stage").fill("2")
    page.get_by_label("number input for Training scenes").fill("100")
    page.get_by_label("number input for Epochs", exact=True).last.fill("40")
    page.locator("#segment-forecast table").wait_for(timeout=SOON)
    page.locator("#segment").click()
    page.locator("#segment-live circle.b").nth(1).wait_for(state="attached", timeout=LONG)
    page.reload()
    here.tab("Label pixels")
    page.locator("#segment-live circle.b").nth(1).wait_for(state="attached", timeout=SOON)
    page.locator("#segment-stop").click()
    page.locator("#segment-results circle.boundary").nth(1).wait_for(state="attached", timeout=LONG)
    page.locator("#labels .map img").nth(3).wait_for(timeout=LONG)
    assert "mean IoU" in page.locator("#labels").inner_text()
    assert page.evaluate(PALE_TEXTS) == []
    picture(2).save(tmp_path / "mine.png")
    page.locator("#pixel-upload input").set_input_files(tmp_path / "mine.png")
    page.locator("#labels", has_text="mean probability").wait_for(timeout=LONG)
    assert page.locator("#labels .map img").count() == 3
    (tmp_path / "text.png").write_text("no picture")
    page.locator("#pixel-upload button[aria-label=Clear]").click()
    page.wait_for_timeout(1000)  # no person chooses the next file while the list of the last one is still going away
    page.locator("#pixel-upload input").set_input_files(tmp_path / "text.png")
    page.locator("#labels .message", has_text="cannot be used").wait_for(timeout=LONG)


def test_stored_results_are_compared_without_training(visit: Callable[..., Visit]) -> None:
    here = visit()
    here.tab("Compare")
    here.page.locator("#compare-results").locator("svg, .message.note").first.wait_for(timeout=SOON)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_cut_off_or_too_pale(visit: Callable[..., Visit], dark: bool, width: int) -> None:
    here = visit(width=width, dark=dark)
    for tab in ("Calculator", "Batch planner", "Train two", "Predict", "Compare", "Your photos", "Label pixels"):
        here.tab(tab)
        if tab == "Batch planner":
            here.page.locator("#plan rect.chosen").wait_for(state="attached", timeout=SOON)
        here.page.wait_for_timeout(300)
        assert here.page.evaluate("document.documentElement.scrollWidth") <= width
        assert here.page.evaluate(PALE_TEXTS) == [], tab


# Visible texts with less contrast to the nearest painted background than WCAG's 4.5 (3 for large ones).
PALE_TEXTS = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const over = (top, below) => below.map((c, i) => i < 3 ? top[i] * top[3] / 255 + c * (1 - top[3] / 255) : 255);
  const ground = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
    return layers.reduceRight((below, top) => over([...top], below), [255, 255, 255, 255]);
  };
  const pale = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim();
    if (!text || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (element.closest('[disabled], footer, style, script')) continue;
    const style = getComputedStyle(element), size = parseFloat(style.fontSize);
    const paint = element.closest('svg') ? style.fill : style.color;
    const [a, b] = [light(rgba(paint)), light(ground(element))].sort((x, y) => y - x);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < (large ? 3 : 4.5)) pale.push(`${text.slice(0, 40)}: ${contrast.toFixed(2)}`);
  }
  return pale;
}"""
