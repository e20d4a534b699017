// One image: its picture, all its numbers and tags, its copies, and its neighbours in the latent space.

function openCase() {
  byId("case").hidden = false;
  showCase();
  byId("case").focus();
}

function closeCase() {
  byId("case").hidden = true;
  list.focus();
}

function showCase() {
  const row = shown[current];
  if (row === undefined) return byId("case").replaceChildren(element("p", {}, "No image is shown."));
  const close = element("button", { type: "button", textContent: "Close", className: "close" });
  close.addEventListener("click", closeCase);
  const frame = number("frame", row) > 0 ? `, frame ${number("frame", row)}` : "";
  byId("case").replaceChildren(
    close,
    element("h2", { textContent: `Rank ${number("rank", row)}` }),
    element("p", { className: "path", textContent: paths[row] + frame }),
    pictured(row) ? picture(row) : element("p", { textContent: "No picture: only the first of the ranking have one." }),
    decisionButtons(row),
    element("p", { textContent: reasonOf(row) }),
    scoreTable(row),
    tagList(row),
    ...group("Same pixels", "equal", row),
    ...group("Nearly the same", "near", row),
    ...neighbours(row),
  );
}

function scoreTable(row) {
  const grey = word("modality", row) === "CT" ? "HU" : "grey level";
  const lines = facts.scores.filter((score) => Number.isFinite(number(score.name, row))).map((score) =>
    element("tr", {},
      element("th", { scope: "row", textContent: score.label }),
      element("td", { textContent: `${digits(number(score.name, row))} ${score.unit.replace("{unit}", grey)}` }),
      element("td", { textContent: digits(number(score.p, row)) })));
  const head = ["Score", "Value", "p"].map((text) => element("th", { scope: "col", textContent: text }));
  return element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...lines));
}

function tagList(row) {
  const entries = Object.entries({ ...CHOICES, patient: "Patient", disagreement: "Tags" })
    .map(([name, label]) => [label, word(name, row)])
    .map(([label, text]) => [label, label === "Error" && text ? `${text} ${facts.errors[text] || ""}` : text])
    .concat([["Size", Number(number("columns", row)) > 0 ? `${number("columns", row)} × ${number("rows", row)}` : ""]])
    .filter(([, text]) => text);
  return element("dl", {}, ...entries.flatMap(([label, text]) => [element("dt", { textContent: label }), element("dd", { textContent: text })]));
}

// The others of a group of copies; at most twelve are named.
function group(title, name, row) {
  const own = number(name, row);
  if (!own) return [];
  const rows = [];
  columns[name].values.forEach((value, other) => { if (value === own && other !== row) rows.push(other); });
  const more = rows.length > 12 ? ` (12 of ${rows.length})` : "";
  return [element("h3", { textContent: title + more }), element("div", { className: "others" }, ...rows.slice(0, 12).map((other) => link(other)))];
}

function neighbours(row) {
  const at = place(row);
  if (at < 0) return [];
  const count = columns.nearest.values.length / facts.pictures.length;
  const found = [];
  for (let n = at * count; n < (at + 1) * count; n++) {
    if (columns.nearest.values[n] >= 0) found.push(link(columns.nearest.values[n], ` · distance ${digits(columns.distance.values[n])}`));
  }
  if (!found.length) return [];
  return [element("h3", { textContent: "Nearest in latent space" }), element("div", { className: "others" }, ...found)];
}

// A button that goes to another image; if the filters hide it, they are cleared.
function link(row, more = "") {
  const button = element("button", { type: "button", className: "other" }, ...(pictured(row) ? [picture(row)] : []),
    element("span", { className: "path", textContent: paths[row] + more }));
  button.addEventListener("click", () => {
    let at = shown.indexOf(row);
    if (at < 0) {
      byId("filters").reset();
      refresh();
      at = shown.indexOf(row);
    }
    moveTo(at);
  });
  return button;
}
