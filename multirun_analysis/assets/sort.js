// A click on a column's head sorts the rows of each block; label lines and mean lines keep their place.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending" && column > 0
        || head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      for (const body of table.tBodies) {
        const fixed = (row) => row.classList.contains("label") || row.classList.contains("rule");
        const free = [...body.rows].filter((row) => !fixed(row));
        const last = [...body.rows].filter((row) => row.classList.contains("rule"));
        const key = (row) => {
          const cell = row.cells[column];
          if (cell === undefined) return NaN;
          return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
        };
        const order = (a, b) => {
          const [x, y] = [key(a), key(b)];
          if (typeof x === "number" && typeof y === "number") return down ? y - x : x - y;
          if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
          return down ? y.localeCompare(x) : x.localeCompare(y);
        };
        free.sort(order);
        body.append(...free, ...last);
      }
    });
  });
}
