"use strict";
(() => {
  // Groups that are added to the page at a time, as they are scrolled to.
  const STEP = 60;
  const find = (id) => document.getElementById(id);
  const { tick, moves } = document.body.dataset;
  const sections = [...document.querySelectorAll("script.data")].map((data) => {
    const box = data.previousElementSibling;
    const there = [...box.children];
    const groups = data.textContent.split("\n").filter(Boolean).map((line, place) => {
      const group = JSON.parse(line);
      const scores = group.scores.filter((score) => score !== null);
      return {
        ...group,
        place,
        element: there[place],
        names: group.keys.join("\n").toLowerCase(),
        known: scores,
        // In sorting, a group without scores comes last.
        high: scores.reduce((a, b) => Math.max(a, b), -2),
        low: scores.reduce((a, b) => Math.min(a, b), 2),
      };
    });
    const end = document.createElement("div");
    box.after(end);
    return { box, end, groups, shown: groups, added: there.length };
  });
  const all = sections.flatMap((section) => section.groups);
  const groupOf = new Map(all.map((group) => [group.element, group]));
  if (!all.length) return;

  function elementOf(group) {
    if (!group.element) {
      const holder = document.createElement("template");
      holder.innerHTML = group.markup;
      group.element = holder.content.firstElementChild;
      groupOf.set(group.element, group);
    }
    const ticked = group.ticked.filter((value) => value !== null);
    group.element.querySelectorAll("input").forEach((box, place) => (box.checked = ticked[place]));
    return group.element;
  }

  function add(section) {
    const next = section.shown.slice(section.added, section.added + STEP);
    section.box.append(...next.map(elementOf));
    section.added += next.length;
  }

  // It only calls when a section's end comes into view: observe it anew until it no longer is.
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        const section = sections.find(({ end }) => end === target);
        if (!isIntersecting || section.added >= section.shown.length) continue;
        add(section);
        observer.unobserve(target);
        observer.observe(target);
      }
    },
    { rootMargin: "1500px" },
  );

  const orders = {
    "": (a, b) => a.place - b.place,
    size: (a, b) => b.keys.length - a.keys.length || a.place - b.place,
    high: (a, b) => b.high - a.high || a.place - b.place,
    low: (a, b) => a.low - b.low || a.place - b.place,
    key: (a, b) => (a.names < b.names ? -1 : a.names > b.names ? 1 : a.place - b.place),
  };

  function update() {
    const name = find("name").value.toLowerCase();
    const least = parseFloat(find("least").value);
    const most = parseFloat(find("most").value);
    const limited = !isNaN(least) || !isNaN(most);
    const inside = (score) => !(score < least) && !(score > most);
    const wanted = (group) => group.names.includes(name) && (!limited || group.known.some(inside));
    for (const section of sections) {
      section.shown = section.groups.filter(wanted).sort(orders[find("order").value]);
      section.added = 0;
      section.box.replaceChildren();
      add(section);
      observer.unobserve(section.end);
      observer.observe(section.end);
    }
    count();
  }

  function count() {
    const shown = sections.reduce((sum, section) => sum + section.shown.length, 0);
    const ticked = all.reduce((sum, group) => sum + group.ticked.filter(Boolean).length, 0);
    find("count").textContent = `${shown} of ${all.length} groups${tick ? `, ${ticked} to ${tick}` : ""}`;
  }

  function selection() {
    return all.flatMap((group) =>
      group.keys
        .map((key, place) => ({ key, uri: group.uris[place], [tick]: group.ticked[place] }))
        .filter((row) => row[tick] !== null),
    );
  }

  function changed(event) {
    if (!event.target.matches("figure input")) return;
    const group = groupOf.get(event.target.closest(".group"));
    const places = group.ticked.flatMap((value, place) => (value === null ? [] : [place]));
    const boxes = [...event.target.closest(".group").querySelectorAll("figure input")];
    group.ticked[places[boxes.indexOf(event.target)]] = event.target.checked;
    count();
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
    const rows = selection();
    const ticked = new Set(rows.filter((row) => row[tick]).map((row) => row.uri));
    // An image that is ticked in one group counts as ticked in all.
    const moved = rows.filter((row) => ticked.has(row.uri) === (moves === "ticked"));
    const done = new Set();
    for (const row of moved) {
      if (done.has(row.uri)) continue;
      done.add(row.uri);
      if (row.uri === null || row.uri.includes("://")) {
        lines.push(`# not on a local disk: ${row.key.replace(/[\u0000-\u001f]/g, " ")}`);
        continue;
      }
      // A name such as ../a.jpg must not lead out of the folder.
      const parts = row.key.split("/").filter((part) => part && part !== "." && part !== "..");
      const target = [folder, ...parts].join("/");
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
    const visible = [...document.querySelectorAll(".group")];
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
  find("tools").hidden = find("keys").hidden = all.length < 3 && !tick;
  for (const id of ["least", "most"]) {
    find(id).parentElement.hidden = !all.some((group) => group.known.length);
  }
  find("tools").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["name", "least", "most"]) find(id).addEventListener("input", update);
  find("order").addEventListener("change", update);
  document.addEventListener("change", changed);
  document.addEventListener("keydown", press);
  for (const button of document.querySelectorAll("[data-export]")) {
    button.addEventListener("click", () => save(button.dataset.export));
  }
  // A browser keeps what was filled in when a page is loaded again, but not what was ticked.
  find("tools").reset();
  for (const group of all) if (group.element) elementOf(group);
  for (const { end } of sections) observer.observe(end);
  count();
})();
