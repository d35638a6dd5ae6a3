// Hover highlights a passage in both columns; click or Enter pins it; Up and Down move, Left and Right change column.
// A passage is known by its number, its rank in the first stage: an id may hold anything.
// Runs once. Every search replaces the columns inside `element`, so `element` listens for their events.
let pinned = null;
let from = null;  // the column in which the pinned row was opened: Escape returns to it
const pick = () => trigger('row_pick', { number: pinned === null ? null : Number(pinned) });
let ranked = false;  // false while scoring goes on
const rowOf = (target) => target.closest && target.closest('button[data-passage]');
const all = (selector) => Array.from(element.querySelectorAll(selector));
const same = (id) => (node) => node.dataset.passage === id;

const columnOf = (row) => row.closest('.ri-after') ? '.ri-after' : '.ri-before';
const rowsOf = (column) => all(`${column} button[data-passage]`);

// Each column is one tab stop: the row that had the focus last, else the first; the arrows move inside it.
function stop(row) {
  rowsOf(columnOf(row)).forEach((node) => { node.tabIndex = node === row ? 0 : -1; });
}
function renewStops() {
  ['.ri-before', '.ri-after'].map(rowsOf).filter((rows) => rows.length)
    .forEach((rows) => { if (rows.filter((node) => node.tabIndex === 0).length !== 1) stop(rows[0]); });
}
function light(id) {
  all('.ri-lit').forEach((node) => node.classList.remove('ri-lit'));
  all('.ri-rankings').forEach((node) => node.classList.toggle('ri-hovering', id !== null));
  if (id === null) return;
  all('button[data-passage]').filter(same(id)).forEach((node) => node.parentElement.classList.add('ri-lit'));
  all('path[data-passage]').filter(same(id)).forEach((node) => node.classList.add('ri-lit'));
}
function mark() {
  all('button[data-passage]').forEach((node) => {
    const on = node.dataset.passage === pinned;
    node.parentElement.classList.toggle('ri-pinned', on);
    if (on) node.setAttribute('aria-current', 'true'); else node.removeAttribute('aria-current');
  });
}
element.addEventListener('mouseover', (event) => { const row = rowOf(event.target); if (row) light(row.dataset.passage); });
element.addEventListener('mouseleave', () => light(null));
element.addEventListener('mouseout', (event) => { if (!event.relatedTarget || !rowOf(event.relatedTarget)) light(null); });
element.addEventListener('focusin', (event) => { const row = rowOf(event.target); if (!row) return; stop(row); if (row.matches(':focus-visible')) light(row.dataset.passage); });
element.addEventListener('focusout', () => light(null));
element.addEventListener('click', (event) => {
  const row = rowOf(event.target);
  if (!row) return;
  pinned = row.dataset.passage;
  from = columnOf(row);
  mark();
  pick();
});
element.addEventListener('keydown', (event) => {
  const row = rowOf(event.target);
  if (!row) return;
  const rows = rowsOf(columnOf(row));
  const twin = () => all('button[data-passage]').filter(same(row.dataset.passage)).find((node) => node !== row);
  const next = {
    ArrowDown: () => rows[rows.indexOf(row) + 1], ArrowUp: () => rows[rows.indexOf(row) - 1],
    Home: () => rows[0], End: () => rows[rows.length - 1], ArrowLeft: twin, ArrowRight: twin,
  }[event.key];
  if (!next) return;
  event.preventDefault();
  const goal = next();
  if (goal) goal.focus();
});
function close() {
  if (pinned === null) return;
  const row = rowsOf(from).find(same(pinned));
  pinned = null;
  mark();
  pick();
  if (row) row.focus();
}
document.addEventListener('keydown', (event) => { if (event.key === 'Escape' && !event.target.closest?.('[role="combobox"], .ri-what-if')) close(); });
document.addEventListener('click', (event) => { if (event.target.closest && event.target.closest('.ri-close')) close(); });
function renew() {
  const now = element.querySelector('.ri-after .ri-chip') !== null;
  if (ranked && !now) pinned = null;  // a new search has started
  if (now && !ranked && pinned !== null) pick();  // opened before its rank was known: update the panel
  ranked = now;
  mark();
  renewStops();
}
new MutationObserver(renew).observe(element, { childList: true, subtree: true });
