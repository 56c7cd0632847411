// A sweep's table sorted in the browser: by the column whose heading is clicked, also after it was
// refreshed. Numbers by their size, texts by their letters, what is missing last.
"use strict";

const valueOf = (row, column) => row.cells[column]?.dataset.value ?? row.cells[column]?.textContent.trim() ?? "";

function compare(one, other) {
  if (one === "" || other === "") return (one === "") - (other === "");
  const a = Number(one), b = Number(other);
  if (!Number.isNaN(a) && !Number.isNaN(b)) return a - b;
  return one.localeCompare(other, undefined, { numeric: true });
}

function sortable(table) {
  const body = table.tBodies[0], headings = [...table.tHead.rows[0].cells];
  const watching = new MutationObserver(() => sort());
  let column = 0, down = false;

  const sort = () => {
    const rows = [...body.rows];
    const wanted = rows.toSorted((a, b) => {
      const one = valueOf(a, column), other = valueOf(b, column);
      // What is missing stays last, whichever way.
      return down && one !== "" && other !== "" ? compare(other, one) : compare(one, other);
    });
    watching.disconnect();
    if (wanted.some((row, at) => row !== rows[at])) body.append(...wanted);
    headings.forEach((heading, at) => {
      if (at === column) heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    });
    watching.observe(body, { childList: true, subtree: true, characterData: true, attributes: true });
  };

  headings.forEach((heading, at) => {
    const button = heading.querySelector("button");
    button?.addEventListener("click", () => {
      down = at === column ? !down : false;
      column = at;
      sort();
    });
  });
}

document.querySelectorAll("table[data-sortable]").forEach(sortable);
