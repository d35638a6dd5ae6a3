"""Pure functions that turn results into escaped HTML, plotly figures or text. No gradio, no models."""
