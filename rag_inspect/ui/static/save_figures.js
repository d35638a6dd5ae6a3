const save = (format) => document.querySelectorAll('.js-plotly-plot').forEach((plot) => {
  plot._context.toImageButtonOptions = { format, filename: 'rag-inspect' };
  plot.querySelector('.modebar-btn[data-attr="toImage"], .modebar-btn[data-title*="ownload"]')?.click();
})
