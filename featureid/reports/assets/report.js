"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const groups = [...document.querySelectorAll(".group")].map((element, place) => {
    const figures = [...element.querySelectorAll("figure")];
    const scores = figures.map((figure) => parseFloat(figure.dataset.score)).filter((x) => !isNaN(x));
    return {
      element,
      place,
      figures,
      scores,
      size: figures.length,
      key: figures.length ? figures[0].dataset.key : "",
      // In sorting, a group without scores comes last.
      high: scores.length ? Math.max(...scores) : -2,
      low: scores.length ? Math.min(...scores) : 2,
      names: figures.map((figure) => figure.dataset.key.toLowerCase()).join("\n"),
    };
  });
  if (!groups.length) return;
  const { tick, moves } = document.body.dataset;
  const boxes = () => [...document.querySelectorAll("figure input[type=checkbox]")];

  function filter() {
    const name = find("name").value.toLowerCase();
    const least = parseFloat(find("least").value);
    const most = parseFloat(find("most").value);
    const limited = !isNaN(least) || !isNaN(most);
    const inside = (score) => !(score < least) && !(score > most);
    let shown = 0;
    for (const group of groups) {
      const wanted = group.names.includes(name) && (!limited || group.scores.some(inside));
      group.element.hidden = !wanted;
      shown += wanted;
    }
    const ticked = tick ? `, ${boxes().filter((box) => box.checked).length} to ${tick}` : "";
    find("count").textContent = `${shown} of ${groups.length} groups${ticked}`;
  }

  const orders = {
    "": (a, b) => a.place - b.place,
    size: (a, b) => b.size - a.size || a.place - b.place,
    high: (a, b) => b.high - a.high || a.place - b.place,
    low: (a, b) => a.low - b.low || a.place - b.place,
    key: (a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.place - b.place),
  };

  function sort() {
    const parents = new Map();
    for (const group of [...groups].sort(orders[find("order").value])) {
      const parent = group.element.parentElement;
      if (!parents.has(parent)) parents.set(parent, []);
      parents.get(parent).push(group.element);
    }
    for (const [parent, elements] of parents) parent.append(...elements);
  }

  function selection() {
    return boxes().map((box) => {
      const { key, uri } = box.closest("figure").dataset;
      return { key, uri: uri === undefined ? null : JSON.parse(uri), [tick]: box.checked };
    });
  }

  const cell = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

  function csv() {
    const lines = selection().map((row) => [row.key, row.uri ?? "", String(row[tick])]);
    return [["key", "uri", tick], ...lines].map((line) => line.map(cell).join(",") + "\n").join("");
  }

  // A file name that is not UTF-8 has its bytes as lone surrogates, U+DC80 to U+DCFF.
  function quoted(text) {
    if (!/[\udc80-\udcff]/u.test(text)) return `'${text.replaceAll("'", "'\\''")}'`;
    const octal = (byte) => "\\0" + byte.toString(8).padStart(3, "0");
    const bytes = [...text].flatMap((character) => {
      const code = character.codePointAt(0);
      return code >= 0xdc80 && code <= 0xdcff ? [code - 0xdc00] : [...new TextEncoder().encode(character)];
    });
    return `"$(printf '%b' '${bytes.map(octal).join("")}')"`;
  }

  function script() {
    const folder = find("target").value.trim().replace(/\/+$/, "");
    if (!folder) {
      find("target").focus();
      find("count").textContent = "Name the folder that the script moves to.";
      return null;
    }
    const lines = ["#!/bin/sh", "# Made by a report of featureid. Nothing is deleted, and no file is replaced."];
    const done = new Set();
    const kept = new Set(selection().filter((row) => row[tick] !== (moves === "ticked")).map((row) => row.uri));
    for (const row of selection()) {
      if (row[tick] !== (moves === "ticked") || done.has(row.uri) || kept.has(row.uri)) continue;
      done.add(row.uri);
      if (row.uri === null || row.uri.includes("://")) {
        lines.push(`# not on a local disk: ${row.key.replace(/[\u0000-\u001f]/g, " ")}`);
        continue;
      }
      const target = `${folder}/${(row.key.includes("://") ? row.uri : row.key).replace(/^\/+/, "")}`;
      lines.push(`mkdir -p -- ${quoted(target.slice(0, target.lastIndexOf("/")))}`);
      lines.push(`mv -n -- ${quoted(row.uri)} ${quoted(target)}`);
    }
    return lines.join("\n") + "\n";
  }

  const exports = {
    csv: ["text/csv", csv],
    json: ["application/json", () => JSON.stringify(selection(), null, 1) + "\n"],
    sh: ["text/x-shellscript", script],
  };

  function save(kind) {
    const [type, make] = exports[kind];
    const text = make();
    if (text === null) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = `selection.${kind}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  let current = null;

  function go(step) {
    const visible = [...document.querySelectorAll(".group:not([hidden])")];
    if (!visible.length) return;
    const place = visible.indexOf(current);
    current?.classList.remove("current");
    current = visible[Math.min(visible.length - 1, Math.max(0, place + step))];
    current.classList.add("current");
    current.scrollIntoView({ block: "center" });
  }

  function press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input:not([type=checkbox]), select, textarea");
    if (event.key === "Escape" && typing) event.target.blur();
    if (typing) return;
    if (event.key === "/") find("name").focus();
    else if (event.key === "j") go(1);
    else if (event.key === "k") go(-1);
    else if (/^[1-9]$/.test(event.key) && current) {
      current.querySelectorAll("figure input[type=checkbox]")[event.key - 1]?.click();
    } else return;
    event.preventDefault();
  }

  // A page with next to nothing to filter needs no tools.
  find("tools").hidden = find("keys").hidden = groups.length < 3 && !tick;
  for (const id of ["least", "most"]) {
    find(id).parentElement.hidden = !groups.some((group) => group.scores.length);
  }
  find("tools").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["name", "least", "most"]) find(id).addEventListener("input", filter);
  find("order").addEventListener("change", sort);
  document.addEventListener("change", (event) => event.target.matches("figure input") && filter());
  document.addEventListener("keydown", press);
  for (const button of document.querySelectorAll("[data-export]")) {
    button.addEventListener("click", () => save(button.dataset.export));
  }
  filter();
})();
