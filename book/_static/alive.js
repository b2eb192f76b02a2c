// What moves in the pages: calculators, sliders through stills, the app on a click. Without it, all of them are text.

const place = new URL(".", import.meta.url);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Numbers for people.

const whole = new Intl.NumberFormat("en");

function scaled(count, units) {
  let value = count;
  let unit = 0;
  while (Math.abs(value) >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return unit ? `${value.toPrecision(3)} ${units[unit]}` : `${whole.format(count)} ${units[0]}`.trim();
}

function written(value, unit) {
  if (unit === "text") return value;
  if (unit === "bytes" || unit === "part") return scaled(value, ["B", "kB", "MB", "GB", "TB"]);
  const exact = whole.format(value);
  if (unit !== "count") return `${exact} ${unit}`;
  return value >= 1e7 ? `${exact} (${scaled(value, ["", "k", "M", "G", "T"])})` : exact;
}

// Calculators: the toolkit's own arithmetic, run by MicroPython.

let started;

async function text(name) {
  const answer = await fetch(new URL(name, place));
  if (!answer.ok) throw new Error(`${name} is not there`);
  return answer.text();
}

async function python() {
  const { loadMicroPython } = await import(new URL("micropython/micropython.mjs", place));
  const [machine, arithmetic, calculators, data] = await Promise.all([
    loadMicroPython({ url: new URL("micropython/micropython.wasm", place).href }),
    text("arithmetic.py"),
    text("calculators.py"),
    text("planner.json"),
  ]);
  machine.FS.writeFile("/arithmetic.py", arithmetic);
  machine.FS.writeFile("/calculators.py", calculators);
  machine.runPython("import sys\nsys.path.append('/')\nimport calculators");
  const module = machine.globals.get("calculators");
  module.load(data);
  return module;
}

function input(field, id) {
  if (field.kind === "choice") {
    const options = field.options.map((option) => element("option", { value: option }, option));
    const made = element("select", { id, name: field.name }, ...options);
    made.value = field.value;
    return made;
  }
  return element("input", {
    id, name: field.name, type: "number", min: field.least, max: field.most, step: field.step,
    value: field.value, inputmode: "numeric",
  });
}

function row(field, prefix, changed) {
  const id = `${prefix}-${field.name}`;
  const control = input(field, id);
  control.addEventListener("input", changed);
  const cell = element("div", { class: "calculator-field" }, element("label", { for: id }, field.label), control);
  if (field.kind === "slider") {
    const range = element("input", {
      type: "range", min: field.least, max: field.most, step: field.step, value: field.value,
      "aria-label": `${field.label}, slider`,
    });
    range.addEventListener("input", () => { control.value = range.value; changed(); });
    control.addEventListener("input", () => { range.value = control.value; });
    cell.append(range);
  }
  return cell;
}

function values(form, fields) {
  const found = {};
  for (const field of fields) {
    const control = form.elements[field.name];
    if (field.kind === "choice") {
      found[field.name] = control.value;
    } else {
      const number = Math.round(Number(control.value)) || field.least;
      found[field.name] = Math.min(Math.max(number, field.least), field.most);
    }
  }
  return found;
}

function drawn(answer) {
  const parts = answer.filter(([, , unit]) => unit === "part" || unit === "pixels");
  const most = Math.max(...parts.map(([, value]) => value), 1);
  const list = element("dl");
  for (const [words, value, unit] of answer) {
    const told = element("dd", { "data-value": value }, written(value, unit));
    if (unit === "part" || unit === "pixels") {
      const bar = element("span", { class: "calculator-bar", "aria-hidden": "true" });
      bar.style.inlineSize = `${(100 * value) / most}%`;
      told.append(bar);
    }
    list.append(element("div", { class: unit }, element("dt", {}, words), told));
  }
  return list;
}

async function calculator(box, index) {
  const name = [...box.classList].find((word) => word.startsWith("calculator-")).slice("calculator-".length);
  started ??= python();
  const module = await started;
  const fields = JSON.parse(module.ask(name));
  const output = element("output", { class: "calculator-answer" });
  const form = element("form", { "aria-label": `calculator: ${name}` });
  const changed = () => output.replaceChildren(drawn(JSON.parse(module.answer(name, JSON.stringify(values(form, fields))))));
  form.append(...fields.map((field) => row(field, `${name}-${index}`, changed)));
  form.addEventListener("submit", (event) => event.preventDefault());
  box.replaceChildren(form, output);
  box.classList.add("alive");
  changed();
}

// Stills: several pictures in one place, and a slider that picks one.

function stills(box, index) {
  const pictures = [...box.querySelectorAll("img")];
  if (pictures.length < 2) return;
  const id = `stills-${index}`;
  const range = element("input", { id, type: "range", min: 0, max: pictures.length - 1, step: 1, value: 0 });
  const said = element("output", { for: id });
  const show = () => {
    pictures.forEach((picture, number) => { picture.hidden = number !== Number(range.value); });
    const words = pictures[range.value].alt.split(". ")[0];
    said.textContent = words;
    range.setAttribute("aria-valuetext", words);
  };
  range.addEventListener("input", show);
  box.prepend(element("div", { class: "stills-control" }, element("label", { for: id }, "Slide:"), range, said));
  box.classList.add("stills", "alive");
  show();
}

// The app: a still picture until somebody wants it.

function app(box) {
  const link = box.querySelector("a[href]");
  const button = element("button", { type: "button", class: "app-button" }, "Load the app into the page");
  button.addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme === "dark" ? "?__theme=dark" : "";
    box.replaceChildren(element("iframe", { src: link.href + dark, title: "The app", loading: "lazy" }));
  });
  box.append(button);
}

// Wide code and formulae scroll; the keyboard must reach them.

function reachable() {
  for (const wide of document.querySelectorAll("pre, div.math, mjx-container, .output")) {
    if (wide.scrollWidth > wide.clientWidth + 1 && !wide.hasAttribute("tabindex")) wide.setAttribute("tabindex", "0");
  }
}

document.querySelectorAll(".calculator").forEach((box, index) => {
  calculator(box, index).catch((error) => {
    box.append(element("p", { class: "calculator-off" }, `The calculator did not start (${error.message}).`));
  });
});
document.querySelectorAll(".stills, .tag_stills .cell_output").forEach(stills);
document.querySelectorAll(".app-embed").forEach(app);
reachable();
addEventListener("resize", reachable);
document.addEventListener("toggle", reachable, true);
