// Results and the controls above them. Results say what they are results of (data-of); while the controls say
// something else, the body has the class ri-outdated-TAB. Results without data-of count from when they came.
// On a phone the controls are folded under a button that says what they say.
(() => {
  const controls = {};
  const sum = {
    explore: (query, corpus, stage, reranker, k, n) => `${corpus} · ${stage} → ${reranker} · top_k ${k}, top_n ${n}`,
    evaluate: (corpus, stages, rerankers, k, n) => `${corpus} · ${stages.join(', ')} → ${rerankers.join(', ')} · top_k ${k}, top_n ${n}`,
  };
  const invisible = /[\u00ad\u200b-\u200f\u2060\ufeff]/g;
  const fold = (value) => typeof value === 'string' ? value.replace(invisible, '').replace(/\s+/g, ' ').trim().slice(0, 200) : value;
  const write = (values) => JSON.stringify(values.map(fold));
  function compare() {
    Object.entries(controls).forEach(([tab, now]) => {
      const results = document.querySelector(`[data-results="${tab}"]`);
      const of = results && (results.dataset.of ? write(JSON.parse(results.dataset.of)) : results.riCame ??= now);
      document.body.classList.toggle(`ri-outdated-${tab}`, Boolean(results) && of !== now);
      const words = document.querySelector(`.ri-fold[data-tab="${tab}"] span`), said = sum[tab](...JSON.parse(now));
      if (words && words.textContent !== said) words.textContent = said;
    });
  }
  window.riExplored = () => controls.explore ? JSON.parse(controls.explore)[1] : null;  // the corpus that Explore shows
  window.riControls = (tab, ...values) => { controls[tab] = write(values); compare(); };
  document.addEventListener('click', (event) => {
    const button = event.target.closest?.('.ri-fold');
    if (!button) return;
    const open = document.body.classList.toggle(`ri-unfolded-${button.dataset.tab}`);
    button.setAttribute('aria-expanded', String(open));
  });
  // Where a passage is, and why, comes after its panel, which may be closed by then, or another passage's or another
  // search's.
  let open = false;
  function complete() {
    const panel = document.querySelector('#passage .ri-passage'), at = document.activeElement;
    // The panel lies over the lower part of the page; what has the focus stays in sight.
    const hidden = panel && !open && at && at !== document.body && !panel.contains(at)
      && at.getBoundingClientRect().bottom > panel.closest('#passage').getBoundingClientRect().top;
    open = Boolean(panel);
    if (hidden) at.scrollIntoView({ block: 'center' });
    const find = (selector) => {
      const found = panel && document.querySelector(selector);
      return found && ['passage', 'search'].every((name) => found.dataset[name] === panel.dataset[name]) ? found : null;
    };
    const where = find('#located .ri-where'), why = find('#explained .ri-explained');
    if (where && !panel.querySelector('.ri-where')) panel.querySelector('dl').before(where.cloneNode(true));
    const outcome = find('#outcome .ri-outcome'), last = panel?.querySelector('.ri-outcome');
    if (outcome && last && outcome.dataset.done !== last.dataset.done) last.replaceWith(outcome.cloneNode(true));
    const shown = panel?.querySelector('.ri-explained');
    if (!why || why.dataset.done === shown?.dataset.done) return;
    (shown ?? panel.querySelector('.ri-whole')).replaceWith(why.cloneNode(true));
    panel.querySelector('.ri-explain')?.closest('p').remove();
  }
  document.addEventListener('click', (event) => {
    if (event.target.closest?.('#passage .ri-explain')) document.querySelector('#explain').click();
    if (event.target.closest?.('#passage .ri-stop')) document.querySelector('#stop').click();
    if (event.target.closest?.('#passage .ri-score-edit')) document.querySelector('#what-if').click();
    if (event.target.closest?.('#passage .ri-undo')) {
      document.querySelectorAll('#passage .ri-what-if textarea').forEach((box) => { box.value = box.defaultValue; });
      document.querySelector('#passage .ri-outcome').textContent = '';
    }
    const copy = event.target.closest?.('.ri-copy');
    if (copy) window.riCopy(copy, copy.dataset.copy);
  });
  new MutationObserver(() => { compare(); complete(); })
    .observe(document.documentElement, { childList: true, subtree: true, attributeFilter: ['data-of', 'data-done'] });
})();

window.riCopy = async (button, text) => {
  const words = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = words; }, 1500);
  } catch { window.prompt('Copy this', text); }
};

// The id of a browser that has none yet: long and random, as whoever has it is the visitor (sessions.py). Kept beside
// gradio's own copy, which a tab reads only as it loads: two tabs opened at once would each make one. What one tab stores
// takes a moment to reach the others, so the first holds the lock until then.
window.riVisitor = () => new Promise((resolve) => {
  const key = 'rag-inspect-visitor-id';
  const made = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  const take = async () => {
    const known = localStorage.getItem(key);
    if (!known) localStorage.setItem(key, made);
    resolve(known || made);
    if (!known) await new Promise((go) => { setTimeout(go, 400); });
  };
  // A browser that stores nothing is known until it leaves the page.
  (navigator.locks ? navigator.locks.request(key, take) : take()).catch(() => resolve(made));
});

// Tab leaves no list open: gradio opens one when it gets the focus, and does not close it when Tab leaves it. A list
// that is long enough to scroll would be a stop of its own, and take the focus with it when it closes.
document.addEventListener('keydown', (event) => {
  const list = event.target.closest?.('input[role="combobox"]');
  if (event.key !== 'Tab' || !list) return;
  document.getElementById(list.getAttribute('aria-controls'))?.setAttribute('tabindex', '-1');
  event.stopPropagation();  // gradio opens the list at any key it does not know; the focus moves on all the same
  list.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', code: 'Escape', bubbles: true }));
}, true);

// Enter chooses, and the focus stays on the list: gradio takes it away. It does not see it come back, or it would open
// the list again.
(() => {
  let chosen = null, back = null;
  document.addEventListener('keydown', (event) => { chosen = event.key === 'Enter' ? event.target.closest?.('input[role="combobox"]') : null; }, true);
  document.addEventListener('focus', (event) => { if (event.target === back) event.stopImmediatePropagation(); }, true);
  document.addEventListener('focusout', (event) => {
    if (event.target !== chosen || event.relatedTarget) return;
    setTimeout(() => {
      if (document.activeElement !== document.body) return;
      back = event.target;
      back.focus();
      back = null;
    });
  });
  document.addEventListener('pointerdown', () => { chosen = null; }, true);
})();

// A slider searches when the pointer lets go of it (release). What the keyboard changes counts as released, too, once
// the keys have rested.
(() => {
  const released = new WeakMap(), waiting = new WeakMap();  // per box: the value last let go of, the timer
  const boxOf = (event) => event.target.closest?.('input[type="range"], input[type="number"]');
  const note = (event) => { const box = boxOf(event); if (box) released.set(box, box.value); };
  document.addEventListener('focusin', note);
  document.addEventListener('pointerup', note, true);
  document.addEventListener('change', (event) => {
    const box = boxOf(event);
    if (!box) return;
    clearTimeout(waiting.get(box));
    waiting.set(box, setTimeout(() => {
      if (box.value !== '' && !box.checkValidity()) {  // gradio holds a typed number to its range only as it loses the focus
        box.value = Math.min(box.max, Math.max(box.min, box.value));
        box.dispatchEvent(new Event('input', { bubbles: true }));
      }
      if (released.get(box) !== box.value) box.dispatchEvent(new PointerEvent('pointerup', { bubbles: true }));
    }, 400));
  });
})();
