"""The look of the page: system fonts, quiet colours, and the stylesheets of our own HTML."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

STATIC = Path(__file__).parent / "static"
_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    """Return a dense theme that fetches no font, in colours of which axe finds the contrast high enough."""
    base = gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        spacing_size=gr.themes.sizes.spacing_sm,
        radius_size=gr.themes.sizes.radius_sm,
        text_size=gr.themes.sizes.text_sm,
        font=_FONT,
        font_mono=_MONO,
    )
    return base.set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
    )


def css() -> str:
    """Return the CSS of the page and of every view."""
    return "\n".join(
        path.read_text(encoding="utf-8") for path in sorted(STATIC.glob("*.css")) if path.name != "frame.css"
    )


def head() -> str:
    """Return the page's script, and the CSS that gradio's `css` parameter cannot apply: rules for the frame around it."""
    frame = (STATIC / "frame.css").read_text(encoding="utf-8")
    return f"<style>{frame}</style><script>{read_script('page.js')}</script>"


def read_script(name: str) -> str:
    """Return the text of a script in static/."""
    return (STATIC / name).read_text(encoding="utf-8")
