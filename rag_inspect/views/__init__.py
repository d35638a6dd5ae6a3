"""Pure views: values from `types` in, escaped HTML, plotly figures or text out. No gradio, no models."""
