// How the cells of each kind of column are written. Everything goes in as text, never as HTML.
function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function pills(text, kind) {
  return text === null ? [] : text.split("\t").flatMap((one) => [" ", element("span", { class: kind }, printable(one))]);
}

// What a check found: "severity: words".
function remarks(text) {
  return text === null ? [] : text.split("\t").map((one) => {
    const end = one.indexOf(": "), severity = one.slice(0, end);
    return element("span", { class: "found" }, element("span", { class: "badge s-" + severity }, severity), " " + printable(one.slice(end + 2)));
  });
}

// Each writer gets the td, the values of its columns in this row, and the full number for the tooltip.
const WRITERS = {
  text(cell, [value]) {
    if (value === null) return;
    const words = printable(String(value));
    cell.append(words);
    if (words.length > 30) cell.classList.add("long");
  },
  case(cell, values) { WRITERS.text(cell, values); cell.classList.add("case"); },
  number(cell, [value]) { if (value !== null) cell.append(String(value)); },
  seconds(cell, [value]) { if (value !== null) { cell.append(seconds(value)); cell.title = value + " s"; } },
  spread(cell, [low, high]) {
    if (low === null || high === null) return;
    const [first, unit] = seconds(low).split(" "), last = seconds(high);
    cell.append((last.endsWith(" " + unit) ? first : first + " " + unit) + " to " + last);
    cell.title = low + " s to " + high + " s";
  },
  figure(cell, [value, unit]) {
    if (value === null) return;
    cell.append(unit === "s" ? seconds(value) : engineering(value, unit));
    cell.title = value + " " + unit;
  },
  share(cell, [value]) { if (value !== null) { cell.append(percent(value)); cell.title = String(value); } },
  peak(cell, [value, evidence]) {
    if (value === null) return;
    const bar = element("span", {});
    bar.style.width = (100 * Math.min(Math.max(value, 0), 1)).toFixed(1) + "%";
    const known = evidence === null || evidence === "published" ? "" : " (" + printable(evidence) + ")";
    cell.append(element("span", { class: "bar", "aria-hidden": "true" }, bar), percent(value) + known);
    cell.title = value + " of the dense peak, which is " + (evidence === null ? "of unknown evidence" : printable(evidence));
  },
  status(cell, [status, marks, found, reason]) {
    const name = status === null ? "unknown" : status;
    cell.classList.add("status");
    cell.parentNode.className = name === "ok" ? "ok" : name === "skipped" ? "skipped" : "bad";
    cell.append(element("span", { class: "state" }, printable(name).replace(/_/g, " ")), ...pills(marks, "mark"));
    if (reason !== null) cell.append(" ", element("span", { class: "reason" }, printable(reason)));
    cell.append(...remarks(found));
  },
  verdict(cell, [verdict]) {
    if (verdict !== null) cell.append(element("span", { class: "verdict v-" + verdict.toLowerCase().replace(/[^a-z]/g, "-") }, printable(verdict)));
  },
  change(cell, [ratio, low, high]) {
    if (ratio === null) return;
    cell.append(change(ratio));
    cell.title = ratio + " times the time" + (low === null ? "" : ", 95 % interval " + low + " to " + high);
  },
  interval(cell, [low, high]) { if (low !== null && high !== null) cell.append(interval(low, high)); },
};

// What a column sorts by where that is not simply its first value.
const KEYS = {
  spread: ([low, high]) => (low === null || high === null ? null : high - low),
  interval: ([low, high]) => (low === null || high === null ? null : high - low),
};
const NUMERIC = new Set(["number", "seconds", "spread", "figure", "share", "peak", "change", "interval"]);
