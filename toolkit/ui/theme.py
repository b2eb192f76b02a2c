"""Colours and letters. Nothing comes from a foreign host; the rest of the look is `style.css`."""

from pathlib import Path

import gradio as gr

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


STYLE = Path(__file__).with_name("style.css")
