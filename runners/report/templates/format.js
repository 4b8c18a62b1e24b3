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

// Characters that would not show, or would turn the text around them, are spelled out: results/safe_text.py, runners/report/visible.py.
function printable(text) {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (found) => {
    if ("\t\r\n".includes(found)) return found;
    const code = found.codePointAt(0), hex = code.toString(16);
    return code < 0x100 ? "\\x" + hex.padStart(2, "0") : code < 0x10000 ? "\\u" + hex.padStart(4, "0") : "\\U" + hex.padStart(8, "0");
  });
}

// One cell of a CSV, as results/cells.py writes it: text that a spreadsheet would take for a formula gets a quote before it.
function csvCell(value) {
  if (value === null) return "";
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : value > 0 ? "inf" : "-inf";
  const text = /^'*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]/.test(value) ? "'" + value : value;
  return /[",\r\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
}
