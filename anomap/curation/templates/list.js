// The list: a grid of which only the visible rows exist.

const ROW = 60; // height of a row in pixels, as in the style
const MOST = 12e6; // pixels that browsers can scroll over; longer lists scroll in proportion
const SPARE = 4; // rows beyond either edge
let current = 0; // place in `shown`

const HEADS = [
  ["rank", "Rank"], ["", "Input, fit, map"], ["path", "Image"], ["score", "Score"], ["p", "p"],
  ["finding", "Found"], ["cluster", "Cluster"], ["copies", "Copies"], ["decision", "Decision"],
];

const list = byId("list");
const space = byId("space");
const height = () => Math.min(shown.length * ROW, MOST);
const view = () => list.clientHeight - byId("head").offsetHeight;
// Which row is at the top, with a fraction; scrolled to the end, the last row is at the bottom.
function topRow() {
  const most = Math.max(height() - view(), 1);
  return (Math.min(list.scrollTop, most) / most) * Math.max(shown.length - view() / ROW, 0);
}

function buildHead() {
  const cells = HEADS.map(([by, label]) => {
    const cell = element("div", { role: "columnheader" });
    if (!by) cell.append(label);
    else {
      cell.append(element("button", { type: "button", textContent: label }));
      cell.dataset.by = by;
      cell.firstChild.addEventListener("click", () => sortBy(by));
    }
    return cell;
  });
  byId("head").append(element("div", { role: "row", className: "row" }, ...cells));
  list.setAttribute("aria-colcount", HEADS.length);
}

function sortBy(by) {
  sorting.rising = sorting.by === by ? !sorting.rising : true;
  sorting.by = by;
  refresh();
}

function showHead() {
  for (const cell of byId("head").querySelectorAll("[data-by]")) {
    const [, small] = SORTS[cell.dataset.by];
    const own = cell.dataset.by === sorting.by;
    cell.setAttribute("aria-sort", own ? (small === sorting.rising ? "ascending" : "descending") : "none");
  }
  const chosen = facts.scores.find((score) => score.name === byId("score").value);
  byId("head").querySelector("[data-by=score] button").textContent = chosen ? chosen.label : "Score";
}

let drawn = ""; // the rows in the page, "first-last"

// Unless drawn anew, rows that are there stay: a click isn't lost while the list scrolls or the window changes.
function showRows({ anew = true } = {}) {
  space.style.height = `${height()}px`;
  const top = topRow();
  const first = Math.max(0, Math.floor(top) - SPARE);
  const last = Math.min(shown.length, Math.ceil(top + view() / ROW) + SPARE);
  const rows = byId("rows");
  // Between the ends, the row at `top` lies at the upper edge of the view.
  rows.style.transform = `translateY(${Math.min(list.scrollTop, Math.max(height() - view(), 0)) + (first - top) * ROW}px)`;
  if (!anew && drawn === `${first}-${last}`) return;
  drawn = `${first}-${last}`;
  rows.replaceChildren(...Array.from({ length: last - first }, (_, n) => listRow(first + n)));
  list.setAttribute("aria-rowcount", shown.length + 1);
  const active = byId(`row-${current}`);
  if (active) list.setAttribute("aria-activedescendant", active.id);
  else list.removeAttribute("aria-activedescendant");
}

function listRow(at) {
  const row = shown[at];
  const score = byId("score").value;
  const cells = [
    String(number("rank", row)),
    pictured(row) ? picture(row) : "",
    imageName(row),
    digits(number(score, row)),
    digits(number("p_value", row)),
    [word("error", row), word("disagreement", row)].filter(Boolean).join("; "),
    number("cluster", row) > 0 ? String(number("cluster", row)) : "",
    copies(row),
    decisionButtons(row),
  ].map((content) => element("div", { role: "gridcell" }, content));
  const made = element("div", { role: "row", id: `row-${at}`, className: `row ${facts.decisions[decisionOf(row)]}` }, ...cells);
  made.dataset.at = at;
  made.setAttribute("aria-rowindex", at + 2);
  made.setAttribute("aria-selected", String(at === current));
  return made;
}

function imageName(row) {
  const frame = number("frame", row) > 0 ? `, frame ${number("frame", row)}` : "";
  const tags = ["modality", "body_part", "view_position", "manufacturer"].map((name) => word(name, row)).filter(Boolean);
  return element("div", {}, element("span", { className: "path", title: paths[row], textContent: paths[row] + frame }),
    element("small", { textContent: tags.join(" · ") }));
}

const copies = (row) => (number("equal", row) ? `= ${number("equal", row)}` : number("near", row) ? `≈ ${number("near", row)}` : "");

function decisionButtons(row) {
  return element("span", { className: "buttons" }, ...facts.decisions.map((name, code) => {
    const button = element("button", { type: "button", className: name, textContent: name, tabIndex: -1 });
    button.dataset.mark = code;
    button.setAttribute("aria-pressed", String(decisionOf(row) === code));
    return button;
  }));
}

function moveTo(at) {
  current = Math.max(0, Math.min(shown.length - 1, at));
  const rows = view() / ROW;
  const top = topRow();
  const wanted = current < top ? current : current + 1 > top + rows ? current + 1 - rows : top;
  if (wanted !== top) list.scrollTop = (wanted / Math.max(shown.length - rows, 1)) * Math.max(height() - view(), 0);
  showRows();
  if (!byId("case").hidden) showCase();
}
