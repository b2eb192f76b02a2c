"""Colours, letters and the style sheet. Nothing comes from a foreign host; text has a contrast of 4.5 or more."""

import gradio as gr

# Okabe and Ito's palette, which colour-blind readers can tell apart; the text tones of it are darker or lighter.
MODEL_COLOURS = {"light": ("#0072b2", "#b34700"), "dark": ("#56b4e9", "#f0a64b")}

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace")


def theme() -> gr.themes.Base:
    """Gradio's default with the system's own letters and labels that can be read."""
    return gr.themes.Default(
        primary_hue="blue", secondary_hue="blue", neutral_hue="slate", font=SANS, font_mono=MONO
    ).set(
        button_primary_background_fill="#0b62a4",
        button_primary_background_fill_hover="#084d82",
        button_primary_background_fill_dark="#1f6fb5",
        button_primary_background_fill_hover_dark="#2a7fc9",
        button_primary_text_color="white",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        input_placeholder_color="*neutral_600",
        input_placeholder_color_dark="*neutral_300",
    )


CSS = """
:root { --a: #0072b2; --b: #b34700; --line: #d5dbe3; --faint: #f1f4f8; --quiet: #4a5568; --good: #00694d;
  --conv: #0072b2; --pool: #c98a00; --dense: #00795a; --norm: #7d6b00; --attention: #9a3d76; --merge: #b5577f;
  --other: #8893a2; --paper: #fff; }
.dark { --a: #56b4e9; --b: #f0a64b; --line: #3a4658; --faint: #1c2636; --quiet: #b7c1cf; --good: #4fd0a5;
  --conv: #56b4e9; --pool: #f0c14b; --dense: #3fc79b; --norm: #d8c95a; --attention: #e08fc0; --merge: #dd8fb4;
  --other: #8b97a8; --paper: #0f1726; }
.gradio-container { max-width: 1320px !important; width: 100% !important; margin: 0 auto; }
.gradio-container main, .gradio-container .column, .gradio-container .block { min-width: 0; }
.title h1 { font-size: 1.5rem; margin: 0; }
.title p { margin: .2rem 0 0; color: var(--quiet); max-width: 75ch; }
.message { border-left: 4px solid #c0392b; background: #fdecea; color: #7a1f14; padding: .55rem .8rem; margin: 0;
  border-radius: 4px; }
.message.note { border-color: var(--a); background: var(--faint); color: inherit; }
.dark .message.problem { background: #3c1b18; color: #ffc9c2; }
.message-area:not(:has(.message)) { display: none; }
.cards { display: grid; grid-template-columns: repeat(2, 1fr); gap: .6rem; margin: 0; }
@media (min-width: 640px) { .cards { grid-template-columns: repeat(3, 1fr); } }
.cards > div { border: 1px solid var(--line); border-radius: 8px; padding: .55rem .75rem; background: var(--paper); }
.cards dt { font-size: .82rem; color: var(--quiet); }
.cards dd { margin: 0; }
.cards .figure { font-size: 1.35rem; font-weight: 650; font-variant-numeric: tabular-nums; white-space: nowrap; }
.cards .convention { font-size: .78rem; color: var(--quiet); line-height: 1.3; }
.scroll { overflow: auto; max-height: 34rem; border: 1px solid var(--line); border-radius: 8px;
  background: var(--paper); }
.scroll table { border-collapse: collapse; width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums; }
.scroll caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.scroll th, .scroll td { padding: .28rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
.scroll th[scope=row], .scroll thead th:first-child { text-align: left; font-weight: 550; }
.scroll thead th { position: sticky; top: 0; background: var(--faint); z-index: 1; font-weight: 650; }
.scroll tbody tr:last-child > * { border-bottom: 0; }
.layers tbody tr:last-child > * { font-weight: 650; }
.layers td:nth-child(2), .layers thead th:nth-child(2) { text-align: left; }
.scroll tbody tr:hover { background: var(--faint); }
figure { margin: .8rem 0 0; }
figcaption { font-weight: 600; margin-bottom: .25rem; font-size: .92rem; }
figcaption small { display: block; font-weight: 400; color: var(--quiet); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); gap: 1rem; }
svg text { font: 11px system-ui, sans-serif; fill: var(--quiet); }
.chart svg { width: 100%; height: auto; display: block; }
.grid line { stroke: var(--line); }
.curve { fill: none; stroke-width: 1.4; opacity: .65; stroke-linejoin: round; }
.curve.bold { stroke-width: 2.6; opacity: 1; }
.curve.a { stroke: var(--a); } .curve.b { stroke: var(--b); stroke-dasharray: 7 3; }
circle.a { fill: var(--a); } circle.b { fill: var(--b); }
svg text.name { font-weight: 700; font-size: 13px; } text.name.a { fill: var(--a); } text.name.b { fill: var(--b); }
.conv { fill: var(--conv); background: var(--conv); } .pool { fill: var(--pool); background: var(--pool); }
.dense { fill: var(--dense); background: var(--dense); } .norm { fill: var(--norm); background: var(--norm); }
.attention { fill: var(--attention); background: var(--attention); }
.merge { fill: var(--merge); background: var(--merge); } .other { fill: var(--other); background: var(--other); }
.edge { fill: none; stroke: var(--other); stroke-width: 1.5; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; list-style: none; margin: 0 0 .4rem; padding: 0;
  font-size: .82rem; color: var(--quiet); }
.legend .key { background: none; } .legend .key::before { content: ""; display: inline-block; width: .75em;
  height: .75em; border-radius: 2px; margin-right: .4em; background: var(--swatch, currentColor); }
.key.conv { --swatch: var(--conv); } .key.pool { --swatch: var(--pool); } .key.dense { --swatch: var(--dense); }
.key.norm { --swatch: var(--norm); } .key.attention { --swatch: var(--attention); }
.key.merge { --swatch: var(--merge); } .key.other { --swatch: var(--other); } .key.a { --swatch: var(--a); }
.key.b { --swatch: var(--b); }
.strip { display: flex; align-items: flex-end; height: 74px; gap: 1px; border-bottom: 1px solid var(--line); }
.strip i { flex: 1 1 0; min-width: 1px; min-height: 1px; border-radius: 1px 1px 0 0; }
.stack { display: flex; height: 1.5rem; border-radius: 4px; overflow: hidden; }
.stack i { min-width: 1px; }
.part0 { background: var(--conv); --swatch: var(--conv); } .part1 { background: var(--pool); --swatch: var(--pool); }
.part2 { background: var(--dense); --swatch: var(--dense); }
.part3 { background: var(--attention); --swatch: var(--attention); }
.part4 { background: var(--other); --swatch: var(--other); }
.bar { height: .7rem; background: var(--faint); border-radius: 4px; overflow: hidden; border: 1px solid var(--line); }
.bar .fill { height: 100%; background: var(--other); } .bar.a .fill { background: var(--a); }
.bar.b .fill { background: var(--b); }
.runs { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: .8rem; }
.run { border: 1px solid var(--line); border-top: 4px solid var(--line); border-radius: 8px; padding: .6rem .8rem;
  background: var(--paper); }
.run.a { border-top-color: var(--a); } .run.b { border-top-color: var(--b); }
.run h3 { margin: 0 0 .3rem; font-size: 1rem; } .run p { margin: .3rem 0 0; color: var(--quiet); font-size: .85rem;
  font-variant-numeric: tabular-nums; }
.run .figure { font-size: 1.35rem; font-weight: 650; color: inherit; margin: 0; }
.forecast { font-size: .88rem; margin: 0; color: var(--quiet); font-variant-numeric: tabular-nums; }
.forecast b { color: var(--body-text-color); }
.model-a { border-top: 4px solid var(--a) !important; } .model-b { border-top: 4px solid var(--b) !important; }
.summary { font-size: 1.05rem; margin: .2rem 0 .6rem; }
.best { font-weight: 700; color: var(--good); }
.confusion table { font-size: .78rem; } .confusion td, .confusion th { padding: .1rem .2rem !important;
  text-align: center !important; }
.confusion td span { display: block; min-width: 1.6em; border-radius: 3px;
  background: color-mix(in srgb, var(--tone) var(--share), transparent); }
.confusion.a { --tone: var(--a); } .confusion.b { --tone: var(--b); }
.album { display: grid; grid-template-columns: repeat(auto-fill, minmax(68px, 1fr)); gap: 6px; }
.album button { border: 2px solid var(--line); border-radius: 6px; padding: 3px; background: var(--paper);
  cursor: pointer; font-size: .72rem; color: inherit; line-height: 1.25; }
.album button[aria-pressed=true] { outline: 3px solid var(--a); outline-offset: 1px; }
.album i { display: block; width: 100%; aspect-ratio: 1; image-rendering: pixelated; border-radius: 3px; }
.album small { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.wrong { color: #a32014; font-weight: 650; } .dark .wrong { color: #ff9d92; }
.right { color: var(--good); font-weight: 650; }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); gap: .8rem; }
.answers table { width: 100%; border-collapse: collapse; font-size: .85rem; }
.answers td, .answers th { padding: .12rem .25rem; font-weight: 400; text-align: left; }
.answers td:nth-child(2) { width: 60%; } .answers td:last-child { text-align: right;
  font-variant-numeric: tabular-nums; }
.seen { image-rendering: pixelated; width: 112px; height: 112px; border: 1px solid var(--line); border-radius: 6px; }
.seen-row { display: flex; gap: .9rem; align-items: center; margin-bottom: .6rem; }
.pad canvas { width: 280px; max-width: 100%; height: auto; aspect-ratio: 1; background: #000; border-radius: 8px;
  touch-action: none; cursor: crosshair; display: block; border: 2px solid var(--line); }
.pad canvas:focus-visible { outline: 3px solid var(--a); }
.pad button { margin-top: .5rem; padding: .4rem 1rem; border-radius: 6px; border: 1px solid var(--line);
  background: var(--faint); cursor: pointer; color: inherit; font: inherit; }
footer { opacity: 1 !important; }
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
"""
