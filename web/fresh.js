// Keeps what is shown fresh: Realtime tells that something changed, and where it cannot be relied on, a timer does.
// Either is only a signal to read again, so that a lost event costs seconds and never the truth.

import { watchChanges } from "./supabase.js";

const SETTLE_MS = 150; // several changes of one transaction make one reading
const CALM_MS = 3000; // how long Realtime may take to come, before the page says a word about it
const POLL_MS = { live: 20_000, away: 4000 };

/** Begins for the signed-in user of the app; returns the function that ends it. */
export function keepFresh(app) {
  let isLive = false;
  let settling = null;
  let polling = null;
  const stop = new AbortController();

  const changed = () => {
    settling ??= setTimeout(() => {
      settling = null;
      app.refresh();
    }, SETTLE_MS);
  };

  const live = (isNowLive) => {
    const isLost = isLive && !isNowLive;
    isLive = isNowLive;
    if (isLive) changed(); // whatever happened while nobody listened
    if (isLost) poll(); // the next look would come as late as while it was live
    setTimeout(tell, isLive ? 0 : CALM_MS);
  };

  function tell() {
    if (stop.signal.aborted) return;
    const freshness = !navigator.onLine ? "offline" : isLive ? "live" : "polling";
    if (app.freshness === freshness) return;
    app.freshness = freshness;
    app.update();
  }

  function poll() {
    clearTimeout(polling);
    const pause = isLive && !app.isBehind ? POLL_MS.live : POLL_MS.away;
    polling = setTimeout(async () => {
      if (!document.hidden && navigator.onLine) await app.refresh();
      if (!stop.signal.aborted) poll();
    }, pause);
  }

  for (const event of ["online", "offline", "focus"]) {
    addEventListener(
      event,
      () => {
        tell();
        changed();
      },
      { signal: stop.signal },
    );
  }
  document.addEventListener("visibilitychange", () => !document.hidden && changed(), { signal: stop.signal });
  const unwatch = watchChanges(app.user.id, changed, live);
  setTimeout(tell, CALM_MS);
  poll();
  return () => {
    stop.abort();
    clearTimeout(polling);
    clearTimeout(settling);
    unwatch();
    app.freshness = "starting";
  };
}
