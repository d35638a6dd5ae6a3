"""How the page looks: system fonts, quiet colours, and the stylesheet of our own HTML."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

STATIC = Path(__file__).parent / "static"
_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> gr.themes.Base:
    """A dense theme that fetches no font."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        spacing_size=gr.themes.sizes.spacing_sm,
        radius_size=gr.themes.sizes.radius_sm,
        text_size=gr.themes.sizes.text_sm,
        font=_FONT,
        font_mono=_MONO,
    )


def css() -> str:
    """The page's own rules and those of every view."""
    return "\n".join(
        path.read_text(encoding="utf-8") for path in sorted(STATIC.glob("*.css")) if path.name != "frame.css"
    )


def head() -> str:
    """The rules of the frame around the page, which `css` does not reach."""
    return f"<style>{(STATIC / 'frame.css').read_text(encoding='utf-8')}</style>"


def script(name: str) -> str:
    """The text of one script in static/."""
    return (STATIC / name).read_text(encoding="utf-8")
