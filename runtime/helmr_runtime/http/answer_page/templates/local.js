const sayLocal = (root) => {
  const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
  const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long" });
  for (const time of root.querySelectorAll("time[data-utc]")) {
    const at = new Date(time.dateTime);
    delete time.dataset.utc;
    if (Number.isNaN(at.getTime()) || at.getTimezoneOffset() === 0) continue;
    const said = document.createElement("span");
    const isSameDay = at.getDate() === at.getUTCDate();
    said.textContent = `, ${isSameDay ? "" : `${day.format(at)}, `}${clock.format(at)} your time`;
    time.after(said);
  }
};
sayLocal(document);
