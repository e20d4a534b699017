// Which rows are shown, and in what order.

const byId = (id) => document.getElementById(id);
const CHOICES = {
  model: "Model", error: "Error", tier: "Tier", looks: "Looks", modality: "Modality", body_part: "Body part",
  view_position: "View", laterality: "Laterality", photometric: "Photometric", manufacturer: "Manufacturer",
};
const sorting = { by: "rank", rising: true };
let shown = new Uint32Array(0);

// What a column is sorted by, and whether small values come first.
const SORTS = {
  rank: [(row) => columns.rank.values[row], true],
  path: [(row) => row, true], // rows are in the order of their paths
  score: [(row) => number(byId("score").value, row), false],
  p: [(row) => number("p_value", row), true],
  finding: [(row) => columns.disagreement.values[row] || NaN, true],
  cluster: [(row) => (columns.cluster.values[row] > 0 ? columns.cluster.values[row] : NaN), true],
  copies: [(row) => columns.equal.values[row] || 1e9 + columns.near.values[row] || NaN, true],
  decision: [(row) => decisionOf(row), false],
};

function option(value, text) {
  return element("option", { value: String(value), textContent: text });
}

function buildChoices() {
  byId("score").append(...facts.scores.map((score) => option(score.name, score.label)));
  for (const [name, label] of Object.entries(CHOICES)) {
    const { values, words } = columns[name];
    const counts = new Array(words.length).fill(0);
    for (const code of values) counts[code]++;
    const present = counts.flatMap((count, code) => (count ? [code] : []));
    if (present.length < 2) continue;
    const select = element("select", { id: `choice-${name}` }, option("", "all"));
    select.append(...present.map((code) => option(code, `${words[code] || "none"} (${counts[code].toLocaleString("en")})`)));
    byId("choices").append(element("label", {}, `${label} `, select));
  }
  byId("cluster").append(option("", "all"));
  const sizes = new Map();
  for (const number of columns.cluster.values) sizes.set(number, (sizes.get(number) || 0) + 1);
  for (const number of [...sizes.keys()].filter((key) => key >= 0).sort((a, b) => (a || Infinity) - (b || Infinity))) {
    byId("cluster").append(option(number, `${number || "in none"} (${sizes.get(number).toLocaleString("en")})`));
  }
  byId("decided").append(option("", "all"), ...facts.decisions.map((name, code) => option(code, name)));
}

// One test a filter that is in use.
function tests() {
  const found = [];
  const text = byId("search").value.trim().toLowerCase();
  if (text) {
    const patients = columns.patient.words.map((label) => label.startsWith(text) && text.length > 3);
    found.push((row) => paths[row].toLowerCase().includes(text) || patients[columns.patient.values[row]]);
  }
  const score = byId("score").value;
  const limit = (id, fits) => {
    if (byId(id).value !== "") found.push(fits(Math.fround(byId(id).valueAsNumber)));
  };
  limit("least", (least) => (row) => number(score, row) >= least);
  limit("most", (most) => (row) => number(score, row) <= most);
  limit("p", (most) => (row) => number("p_value", row) <= most);
  for (const name of Object.keys(CHOICES)) {
    const select = byId(`choice-${name}`);
    if (select && select.value !== "") {
      const code = Number(select.value);
      found.push((row) => columns[name].values[row] === code);
    }
  }
  if (byId("cluster").value !== "") {
    const cluster = Number(byId("cluster").value);
    found.push((row) => columns.cluster.values[row] === cluster);
  }
  if (byId("decided").value !== "") {
    const decided = Number(byId("decided").value);
    found.push((row) => decisionOf(row) === decided);
  }
  if (byId("copies").checked) found.push((row) => columns.equal.values[row] > 0 || columns.near.values[row] > 0);
  if (byId("disagree").checked) found.push((row) => columns.disagreement.values[row] > 0);
  if (byId("pictured").checked) found.push(pictured);
  return found;
}

function choose() {
  const wanted = tests();
  const rows = [];
  for (let row = 0; row < paths.length; row++) if (wanted.every((test) => test(row))) rows.push(row);
  const [key, small] = SORTS[sorting.by];
  const sign = small === sorting.rising ? 1 : -1;
  const keys = new Float64Array(paths.length);
  for (const row of rows) keys[row] = key(row);
  const last = (value) => (Number.isNaN(value) ? 1 : 0); // empty values come last either way
  shown = Uint32Array.from(rows).sort(
    (a, b) => last(keys[a]) - last(keys[b]) || sign * (keys[a] - keys[b]) || columns.rank.values[a] - columns.rank.values[b],
  );
}
