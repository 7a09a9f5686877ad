// Columns sort their table: up, down, and back to the order of the pipeline.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const value = (row) => {
      const cell = row.cells[column];
      if (!("value" in cell.dataset)) return cell.textContent;
      return cell.dataset.value === "" ? NaN : Number(cell.dataset.value);
    };
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
    heading.querySelector("button").addEventListener("click", () => {
      const numeric = typeof value(rows[0]) === "number";
      const cycle = numeric ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
      const next = cycle[(cycle.indexOf(heading.getAttribute("aria-sort")) + 1) % 3];
      headings.forEach((other) => other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", next);
      const sign = next === "descending" ? -1 : 1;
      // What is missing comes last, whichever way.
      const there = rows.filter((row) => !Number.isNaN(value(row)));
      const missing = rows.filter((row) => Number.isNaN(value(row)));
      const sorted = next === "none" ? rows : [...there].sort((a, b) => sign * compare(value(a), value(b))).concat(missing);
      body.append(...sorted);
    });
  });
}
// Paper has nothing to click on.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => (one.open = true)));
