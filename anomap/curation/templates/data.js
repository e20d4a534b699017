"use strict";
// The data of the page: columns of numbers, numbered words, paths, and pictures. Nothing is fetched.

const KINDS = { float32: Float32Array, int32: Int32Array, uint32: Uint32Array, uint16: Uint16Array, uint8: Uint8Array };
const facts = JSON.parse(document.getElementById("facts").textContent);
const columns = {}; // name -> {values, words}
let paths = [];
let pictureBytes, pictureStart;
const pictureUrls = new Map();

function decoded(id) {
  const block = document.getElementById(id);
  const text = atob(block.textContent);
  block.remove(); // its text is not needed twice
  const bytes = new Uint8Array(text.length);
  for (let n = 0; n < bytes.length; n++) bytes[n] = text.charCodeAt(n);
  return bytes;
}

async function unpack() {
  const stream = new Blob([decoded("columns")]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const texts = {};
  for (const column of facts.columns) {
    if (column.kind === "text") {
      const part = bytes.subarray(column.start, column.start + column.count);
      texts[column.name] = new TextDecoder().decode(part).split("\0");
    } else {
      columns[column.name] = { values: merged(bytes, column), words: texts[column.words] };
    }
  }
  if (facts.count) paths = texts.path;
  pictureBytes = decoded("pictures");
  pictureStart = [0];
  for (const length of facts.pictures) pictureStart.push(pictureStart.at(-1) + length);
}

// Numbers come as planes: the first bytes of all of them, then all second bytes, and so on.
function merged(bytes, { kind, start, count }) {
  const Kind = KINDS[kind];
  const size = Kind.BYTES_PER_ELEMENT;
  const whole = new Uint8Array(count * size);
  for (let plane = 0; plane < size; plane++) {
    for (let n = 0, from = start + plane * count; n < count; n++) whole[n * size + plane] = bytes[from + n];
  }
  return new Kind(whole.buffer);
}

const number = (name, row) => (columns[name] ? columns[name].values[row] : NaN);
const word = (name, row) => columns[name].words[columns[name].values[row]];
const place = (row) => (columns.rank.values[row] <= facts.pictures.length ? columns.rank.values[row] - 1 : -1);
const pictured = (row) => place(row) >= 0 && facts.pictures[place(row)] > 0;

// The address of an image's picture (input, reconstruction, map side by side), made when it is first shown.
function pictureUrl(row) {
  const at = place(row);
  if (!pictureUrls.has(at)) {
    const part = pictureBytes.subarray(pictureStart[at], pictureStart[at + 1]);
    pictureUrls.set(at, URL.createObjectURL(new Blob([part], { type: "image/webp" })));
  }
  return pictureUrls.get(at);
}

const digits = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(3))) : "");

// An element with attributes, properties (className, textContent, ...) and children.
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function picture(row) {
  return element("img", { src: pictureUrl(row), alt: "input, reconstruction, map", decoding: "async" });
}
