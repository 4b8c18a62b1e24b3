// The formatters of results/units.py and results/cells.py, for rows that are written in the browser. A test holds them against each other.
const DECIMAL = ["", "k", "M", "G", "T", "P", "E", "Z"];

function digits(value) { return Math.abs(value) < 9.995 ? value.toFixed(2) : value.toFixed(1); }

function engineering(value, unit) {
  if (value === 0 || !Number.isFinite(value)) return (Number.isFinite(value) ? "0" : String(value)) + " " + unit;
  let index = 0;
  while (Math.abs(value) >= 999.95 && index < DECIMAL.length - 1) { value /= 1000; index++; }
  return digits(value) + " " + DECIMAL[index] + unit;
}

function seconds(value) {
  if (value === 0 || !Number.isFinite(value)) return (Number.isFinite(value) ? "0" : String(value)) + " s";
  const found = [[1, "s"], [1e-3, "ms"], [1e-6, "us"], [1e-9, "ns"]].find((pair) => Math.abs(value) >= pair[0] * 0.99995) || [1e-9, "ns"];
  return digits(value / found[0]) + " " + found[1];
}

function percent(fraction) { return (fraction * 100).toFixed(1) + " %"; }

// By how much a time changed: runners/comparison/words.py.
function change(ratio) {
  if (ratio >= 0.5 && ratio < 2) return (ratio < 1 ? "" : "+") + (100 * (ratio - 1)).toFixed(1) + " %";
  return (ratio < 0.1 ? Number(ratio.toPrecision(3)) : ratio.toFixed(2)) + " times";
}

function interval(low, high) {
  const first = change(low), last = change(high), unit = last.slice(last.indexOf(" "));
  return (first.endsWith(unit) ? first.slice(0, -unit.length) : first) + " to " + last;
}

// Characters that would not show, or would turn the text around them, are spelled out.
function printable(text) {
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g,
    (found) => "\\u" + found.charCodeAt(0).toString(16).padStart(4, "0"));
}

// One cell of a CSV: text that a spreadsheet would take for a formula gets a quote before it.
function csvCell(value) {
  if (value === null) return "";
  if (typeof value === "number") return String(value);
  const text = /^'*[=+\-@\t\r]/.test(value) ? "'" + value : value;
  return /[",\r\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
}
