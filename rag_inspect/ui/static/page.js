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
