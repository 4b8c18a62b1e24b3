// Click a heading to sort its table; numbers sort as numbers, empty cells stay last. Without this script the tables just do not sort.
(function () {
  "use strict";
  function key(row, column) {
    var raw = row.cells[column].getAttribute("data-sort");
    var number = Number(raw);
    return raw === "" || raw === null ? null : isNaN(number) ? raw : number;
  }
  function compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b));
  }
  function sort(table, heading, column) {
    var sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (cell) { cell.removeAttribute("aria-sort"); });
    heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    Array.prototype.slice.call(table.tBodies[0].rows)
      .map(function (row, place) { return { row: row, key: key(row, column), place: place }; })
      .sort(function (a, b) { return compare(a.key, b.key, sign) || a.place - b.place; })
      .forEach(function (entry) { table.tBodies[0].appendChild(entry.row); });
  }
  document.querySelectorAll("table.rows").forEach(function (table) {
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (heading, column) {
      var button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent;
      button.addEventListener("click", function () { sort(table, heading, column); });
      heading.textContent = "";
      heading.appendChild(button);
    });
  });
})();
