// Putting it together: what the person does, and what changes then.

function refresh() {
  const row = shown[current];
  choose();
  const at = shown.indexOf(row);
  current = Math.max(0, at);
  if (at < 0) list.scrollTop = 0;
  byId("count").textContent = `${shown.length.toLocaleString("en")} of ${paths.length.toLocaleString("en")} shown`;
  showHead();
  if (at >= 0) moveTo(at);
  else showRows();
  if (!byId("case").hidden) showCase();
}

function marked() {
  countDecisions();
  showRows();
  if (!byId("case").hidden) showCase();
}

function onListKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target !== list) return;
  const page = Math.max(1, Math.floor(view() / ROW) - 1);
  const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
  const marks = { k: "keep", l: "look", d: "drop" };
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key in moves) moveTo(current + moves[key]);
  else if (key === "Enter") openCase();
  else if (key === "u") { undo(); marked(); }
  else if (key in marks && shown.length) { mark([shown[current]], facts.decisions.indexOf(marks[key])); marked(); }
  else return;
  event.preventDefault();
}

function onListClick(event) {
  const row = event.target.closest("[data-at]");
  if (!row) return;
  const code = event.target.dataset.mark;
  if (code !== undefined) {
    mark([shown[Number(row.dataset.at)]], Number(code));
    marked();
    return;
  }
  current = Number(row.dataset.at);
  byId("case").hidden = false;
  showCase();
  showRows();
}

function listen() {
  const moved = () => showRows({ anew: false });
  list.addEventListener("scroll", () => requestAnimationFrame(moved), { passive: true });
  list.addEventListener("keydown", onListKey);
  list.addEventListener("click", onListClick);
  byId("case").addEventListener("click", (event) => {
    const code = event.target.dataset.mark;
    if (code === undefined) return;
    mark([shown[current]], Number(code));
    marked();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !byId("case").hidden) closeCase();
  });
  byId("filters").addEventListener("input", refresh);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("reset", () => setTimeout(refresh));
  for (const button of document.querySelectorAll("[data-all]")) {
    button.addEventListener("click", () => { mark(shown, facts.decisions.indexOf(button.dataset.all)); marked(); });
  }
  byId("undo").addEventListener("click", () => { undo(); marked(); });
  byId("download").addEventListener("click", download);
  new ResizeObserver(moved).observe(list);
}

async function start() {
  await unpack();
  byId("summary").textContent = facts.summary;
  buildChoices();
  restore();
  buildHead();
  listen();
  countDecisions();
  refresh();
  document.body.dataset.ready = "yes";
}

start().catch((error) => {
  byId("summary").textContent = `The page can't be shown: ${error.message}. It needs a browser of 2023 or newer.`;
  throw error;
});
