// A table of any length: filters, sorting, pages and a download, over the packed columns of one data block.
const PAGE_SIZES = [50, 100, 250, 1000];
const PRINTED_AT_MOST = 1500;
const LISTED_AT_MOST = 300;
const natural = new Intl.Collator("en", { numeric: true });

// The place of each different value in the order of sorting: text by its numbers and letters.
function ranks(values) {
  const order = values.map((_, i) => i).filter((i) => values[i] !== null).sort((a, b) => natural.compare(values[a], values[b]));
  const found = new Float64Array(values.length).fill(NaN);
  order.forEach((i, place) => { found[i] = place; });
  return found;
}

function gridOf(place) {
  const data = JSON.parse(document.getElementById(place.dataset.from).textContent);
  const columns = new Map(Object.entries(data.columns).map(([name, packed]) => [name, columnOf(packed)]));
  const none = { isNumber: false, at: () => null, values: () => [null], code: () => 0 };
  const column = (name) => columns.get(name) || none;
  const state = { order: Uint32Array.from({ length: data.count }, (_, i) => i), page: 0, size: 100, sorted: null, descending: false };
  const shown = data.shown.slice();
  const keys = new Map();

  function keyOf(spec) {
    const id = spec.label + "\n" + spec.columns.join("\n");
    if (keys.has(id)) return keys.get(id);
    const key = new Float64Array(data.count), own = spec.columns.map(column), make = KEYS[spec.kind];
    if (make) {
      for (let i = 0; i < data.count; i++) { const made = make(own.map((one) => one.at(i))); key[i] = made === null ? NaN : made; }
    } else {
      const values = own[0].isNumber ? own[0].values() : ranks(own[0].values());
      for (let i = 0; i < data.count; i++) key[i] = values[own[0].code(i)];
    }
    keys.set(id, key);
    return key;
  }

  // Missing values stay last in both directions; equal ones in the order of the file.
  function sort() {
    if (state.sorted === null) { state.order.sort(); return; }
    const key = keyOf(state.sorted), sign = state.descending ? -1 : 1;
    state.order.sort((a, b) => {
      const x = key[a], y = key[b];
      if (x === y) return a - b;
      if (Number.isNaN(x)) return Number.isNaN(y) ? a - b : 1;
      return Number.isNaN(y) ? -1 : sign * (x - y);
    });
  }

  function matching() {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    const tests = words.map((word) => data.searched.map((name) => {
      const one = column(name);
      return [one, Array.from(one.values(), (value) => value !== null && String(value).toLowerCase().includes(word))];
    }));
    const chosen = lists.filter((list) => list.select.value !== "").map((list) => {
      const wanted = Number(list.select.value);
      return (i) => list.column.code(i) === wanted;
    });
    const found = new Uint32Array(data.count);
    let count = 0;
    for (let i = 0; i < data.count; i++) {
      if (chosen.every((is) => is(i)) && tests.every((word) => word.some(([one, has]) => has[one.code(i)]))) found[count++] = i;
    }
    return found.slice(0, count);
  }

  function headings() {
    head.replaceChildren(...shown.map((spec) => {
      const button = element("button", { type: "button", title: data.docs && data.docs[spec.columns[0]] }, spec.label);
      const sort = state.sorted === spec ? (state.descending ? "descending" : "ascending") : null;
      button.addEventListener("click", () => {
        state.descending = state.sorted === spec && !state.descending;
        state.sorted = spec;
        apply(false);
        head.children[shown.indexOf(spec)].firstChild.focus();
      });
      return element("th", { scope: "col", "aria-sort": sort, class: NUMERIC.has(spec.kind) ? "number" : null }, button);
    }));
  }

  function line(i) {
    const row = document.createElement("tr");
    for (const spec of shown) {
      const cell = document.createElement("td");
      if (NUMERIC.has(spec.kind)) cell.className = "number";
      row.append(cell);
      WRITERS[spec.kind](cell, spec.columns.map((name) => column(name).at(i)));
    }
    return row;
  }

  function draw(first, last) {
    body.replaceChildren(...Array.from(state.order.subarray(first, last), line));
  }

  function show() {
    const total = state.order.length, pages = Math.max(1, Math.ceil(total / state.size));
    state.page = Math.min(Math.max(state.page, 0), pages - 1);
    const first = state.page * state.size, last = Math.min(first + state.size, total);
    headings();
    draw(first, last);
    const count = (value) => value.toLocaleString("en-US");
    const of = total === data.count ? count(total) + " " + data.name : count(total) + " of " + count(data.count) + " " + data.name;
    said.textContent = total ? count(first + 1) + " to " + count(last) + " of " + of : "No " + data.name + " match these filters.";
    previous.disabled = state.page === 0;
    next.disabled = state.page >= pages - 1;
  }

  function apply(filtered) {
    if (filtered) state.order = matching();
    sort();
    state.page = 0;
    show();
  }

  function turn(by) { state.page += by; show(); scroller.scrollTop = 0; }

  // All rows that match, in the order shown, with every column that travels in the page.
  function download() {
    const own = data.csv.map(column), parts = [data.csv.map(csvCell).join(",") + "\n"];
    for (const i of state.order) parts.push(own.map((one) => csvCell(one.at(i))).join(",") + "\n");
    const url = URL.createObjectURL(new Blob(parts, { type: "text/csv;charset=utf-8" }));
    const link = element("a", { href: url, download: (data.file || data.name) + ".csv" });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  }

  function listOf(facet) {
    const one = column(facet.column), values = one.values(), counts = new Map();
    for (let i = 0; i < data.count; i++) counts.set(one.code(i), (counts.get(one.code(i)) || 0) + 1);
    const codes = Array.from(counts.keys()).sort((a, b) => counts.get(b) - counts.get(a)).slice(0, LISTED_AT_MOST);
    codes.sort((a, b) => natural.compare(String(values[a]), String(values[b])));
    const name = (value) => (value === null || Number.isNaN(value) ? "none" : printable(String(value)));
    const select = element("select", {}, element("option", { value: "" }, "all"),
      ...codes.map((code) => element("option", { value: code }, name(values[code]) + " (" + counts.get(code).toLocaleString("en-US") + ")")));
    select.addEventListener("change", () => apply(true));
    return { column: one, select, label: element("label", {}, facet.label + " ", select) };
  }

  function moreColumns() {
    const used = new Set(shown.flatMap((spec) => spec.columns));
    const boxes = data.csv.filter((name) => !used.has(name)).map((name) => {
      const spec = { label: name, kind: column(name).isNumber ? "number" : "text", columns: [name] };
      const tick = element("input", { type: "checkbox" });
      tick.addEventListener("change", () => {
        if (tick.checked) shown.push(spec);
        else shown.splice(shown.indexOf(spec), 1);
        show();
      });
      return element("label", { title: data.docs && data.docs[name] }, tick, " " + name);
    });
    return boxes.length ? element("details", { class: "more" }, element("summary", {}, "More columns"), element("div", {}, ...boxes)) : null;
  }

  const box = element("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  let waiting = 0;
  box.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => apply(true), 150); });
  const lists = data.facets.map(listOf);
  const clear = element("button", { type: "button" }, "Clear filters");
  clear.addEventListener("click", () => { box.value = ""; lists.forEach((list) => { list.select.value = ""; }); apply(true); });
  const size = element("select", {}, ...PAGE_SIZES.map((value) => element("option", { value, selected: value === state.size }, String(value))));
  size.addEventListener("change", () => { state.size = Number(size.value); state.page = 0; show(); });
  const previous = element("button", { type: "button" }, "Previous"), next = element("button", { type: "button" }, "Next");
  previous.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  const save = element("button", { type: "button" }, "Download these " + data.name + " (CSV)");
  save.addEventListener("click", download);
  const said = element("p", { class: "said", role: "status", "aria-live": "polite" });
  const head = element("tr"), body = element("tbody");
  const table = element("table", { class: "rows" }, element("caption", { class: "unseen" }, place.dataset.caption), element("thead", {}, head), body);
  const scroller = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": place.dataset.caption }, table);
  place.replaceChildren(
    element("div", { class: "filters", role: "search", "aria-label": "Filter " + data.name },
      element("label", { class: "wide" }, "text ", box), ...lists.map((list) => list.label), clear, moreColumns()),
    element("div", { class: "pager" }, said, element("span", { class: "controls" }, element("label", {}, "show ", size), previous, next, save)),
    scroller,
  );
  show();
  // On paper there is no next page to click: as much as is sensible is printed.
  addEventListener("beforeprint", () => { draw(0, Math.min(state.order.length, PRINTED_AT_MOST)); });
  addEventListener("afterprint", show);
}

document.querySelectorAll(".grid-of-rows").forEach(gridOf);
// Folded parts are opened for the printer.
addEventListener("beforeprint", () => { document.querySelectorAll("details:not(.more)").forEach((one) => { one.open = true; }); });
