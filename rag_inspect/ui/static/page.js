// Results and the controls above them. Results say what they are results of (data-of); while the controls say
// something else, the body has the class ri-outdated-TAB. Results without data-of count from when they came.
(() => {
  const controls = {};
  const invisible = /[\u00ad\u200b-\u200f\u2060\ufeff]/g;
  const fold = (value) => typeof value === 'string' ? value.replace(invisible, '').replace(/\s+/g, ' ').trim().slice(0, 200) : value;
  const write = (values) => JSON.stringify(values.map(fold));
  function compare() {
    Object.entries(controls).forEach(([tab, now]) => {
      const results = document.querySelector(`[data-results="${tab}"]`);
      const of = results && (results.dataset.of ? write(JSON.parse(results.dataset.of)) : results.riCame ??= now);
      document.body.classList.toggle(`ri-outdated-${tab}`, Boolean(results) && of !== now);
    });
  }
  window.riControls = (tab, ...values) => { controls[tab] = write(values); compare(); };
  new MutationObserver(compare).observe(document.documentElement, { childList: true, subtree: true, attributeFilter: ['data-of'] });
})();

// Tab leaves no list open: gradio opens one when it gets the focus, and does not close it when Tab leaves it.
document.addEventListener('keydown', (event) => {
  const list = event.target.closest?.('input[role="combobox"]');
  if (event.key !== 'Tab' || !list) return;
  event.stopPropagation();  // gradio opens the list at any key it does not know; the focus moves on all the same
  list.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', code: 'Escape', bubbles: true }));
}, true);
