// Keep, look or drop: what was proposed or listed, and what was changed on this page. Changes stay in this browser.

const changed = new Map(); // row -> [decision, reason]
const undoable = []; // of each mark: row -> what was changed before, or undefined
const STORE = `anomap-curation-${facts.id}`;

const decisionOf = (row) => (changed.has(row) ? changed.get(row)[0] : columns.decision.values[row]);
const reasonOf = (row) => (changed.has(row) ? changed.get(row)[1] : word("reason", row));

function mark(rows, decision) {
  const before = new Map();
  const reason = byId("reason").value.trim();
  for (const row of rows) {
    before.set(row, changed.get(row));
    changed.set(row, [decision, reason]);
  }
  undoable.push(before);
  store();
}

function undo() {
  for (const [row, was] of undoable.pop() || []) {
    if (was) changed.set(row, was);
    else changed.delete(row);
  }
  store();
}

function store() {
  byId("undo").disabled = undoable.length === 0;
  byId("kept").textContent = changed.size ? `${changed.size.toLocaleString("en")} changed, kept in this browser` : "";
  try {
    localStorage.setItem(STORE, JSON.stringify([...changed].map(([row, [decision, reason]]) => [row, decision, reason])));
  } catch {
    byId("kept").textContent = "This browser keeps no changes: download the list before you close the page";
  }
}

function restore() {
  try {
    for (const [row, decision, reason] of JSON.parse(localStorage.getItem(STORE) || "[]")) changed.set(row, [decision, reason]);
  } catch {
    changed.clear();
  }
  store();
}

function countDecisions() {
  const counts = new Array(facts.decisions.length).fill(0);
  for (let row = 0; row < paths.length; row++) counts[decisionOf(row)]++;
  byId("decisions").replaceChildren(
    ...facts.decisions.map((name, code) => element("span", { className: `tag ${name}` }, `${name} ${counts[code].toLocaleString("en")}`)),
  );
}

// The same form as anomap writes: "./" so that no spreadsheet makes a date, a number or a formula of a path.
function decisionsCsv() {
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = ["path,frame,decision,reason"];
  for (let row = 0; row < paths.length; row++) {
    lines.push([quoted(`./${paths[row]}`), number("frame", row), facts.decisions[decisionOf(row)], quoted(reasonOf(row))].join(","));
  }
  return "\ufeff" + lines.join("\r\n") + "\r\n";
}

function download() {
  const url = URL.createObjectURL(new Blob([decisionsCsv()], { type: "text/csv" }));
  element("a", { href: url, download: "decisions.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}
