(() => {
  const list = document.getElementById("waits");
  const status = document.getElementById("live");
  const source = new EventSource("/inbox/events");
  const stop = () => {
    source.close();
    status.textContent = "This list is no longer live. Reload the page.";
  };
  const merge = (fresh) => {
    sayLocal(fresh);
    const before = new Map([...list.children].map((row) => [row.id, row]));
    const rows = [...fresh.children];
    const ids = new Set(rows.map((row) => row.id));
    for (const [id, row] of before) if (!ids.has(id)) row.remove();
    let count = 0;
    rows.forEach((row, place) => {
      let kept = before.get(row.id);
      if (kept === undefined) {
        kept = row;
        count += row.id === "nothing" ? 0 : 1;
      } else if (kept.dataset.state !== row.dataset.state) {
        const hadFocus = kept.contains(document.activeElement);
        kept.replaceWith(row);
        kept = row;
        if (hadFocus) row.querySelector("a")?.focus();
      } else {
        const [old, now] = [kept, row].map((one) => one.querySelector(".when"));
        if (old && now) old.replaceWith(now);
      }
      if (list.children[place] !== kept) list.insertBefore(kept, list.children[place] ?? null);
    });
    status.textContent = count ? `${count} new` : "";
  };
  const update = async () => {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "error" });
      if (!answer.ok) throw new Error(answer.statusText);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      merge(fresh.getElementById("waits"));
      document.getElementById("count").textContent = fresh.getElementById("count").textContent;
    } catch {
      stop();
    }
  };
  source.addEventListener("changed", update);
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) stop();
  });
})();
