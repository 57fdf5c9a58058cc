// The page: one connection, and a part of the page for each kind of channel.

import { ChatRoom } from "./chat/room.js";
import { Identity } from "./identity.js";
import { Latency } from "./latency.js";
import { QuoteCard } from "./quotes.js";
import { ScoreBoard } from "./scores.js";
import { startTheme } from "./theme.js";

const SYMBOLS = ["AAPL", "MSFT", "NVDA", "AMZN", "GOOG", "TSLA"];

const parameters = new URLSearchParams(location.search);
const asked = parameters.get("symbols");
const symbols = asked ? asked.split(",").filter(Boolean).slice(0, 12) : SYMBOLS;

const scheme = location.protocol === "https:" ? "wss:" : "ws:";
const centrifuge = new Centrifuge(`${scheme}//${location.host}/connection/websocket`, {
  name: "demo-page",
  minReconnectDelay: 200,
  maxReconnectDelay: 5000,
});

const latency = new Latency();
const identity = new Identity(centrifuge, {
  leaving: () => chat.leave(),
  changed: () => chat.enter(),
  failed: (error) => chat.hint.refuse(error),
});
const chat = new ChatRoom(centrifuge, identity, `chat:${parameters.get("room") || "lobby"}`);
const board = new ScoreBoard((channel, handlers) => follow(channel, handlers));
const cards = symbols.map((symbol) => new QuoteCard(symbol, document.getElementById("quotes")));

// The SDK ends the connection for good when a handler throws; one odd message must not do that.
function guarded(handler) {
  return (context) => {
    try {
      handler(context);
    } catch (error) {
      console.error(error);
    }
  };
}

/**
 * Subscribe to a channel.
 *
 * `publication(data, offset, live, context)` gets what is published; `live` is false for snapshots and
 * for what is caught up after a cut, `context` is the SDK's. `load(publications)` gets the newest `history` publications,
 * oldest first, at the beginning and whenever publications were missed; the second argument tells
 * which it is.
 */
function follow(channel, { publication, load, history = 0 }) {
  const subscription = centrifuge.newSubscription(channel);
  let catchingUp = false;
  subscription.on("publication", guarded((context) => {
    const live = !catchingUp && context.tags?.snapshot !== "true";
    latency.count();
    if (live && context.offset) latency.add(context.offset);
    publication(context.data, context.offset, live, context);
  }));
  subscription.on("subscribed", guarded((context) => {
    // Recovered publications follow within this turn of the event loop.
    catchingUp = context.wasRecovering;
    setTimeout(() => { catchingUp = false; });
    const missed = context.wasRecovering && !context.recovered;
    if (load && (missed || !context.wasRecovering)) {
      subscription.history({ limit: history, reverse: true }).then(
        guarded((result) => load(result.publications.reverse(), missed)),
        (error) => console.warn(channel, "history:", error.message),
      );
    }
  }));
  subscription.on("error", (context) => console.warn(channel, context.error.message));
  subscription.subscribe();
  return { subscription, stop: () => centrifuge.removeSubscription(subscription) };
}

for (const card of cards) {
  const { subscription } = follow(card.channel, {
    publication: (data, offset, live) => card.push(data, offset, live),
    load: (publications) => card.load(publications),
    history: QuoteCard.POINTS,
  });
  card.subscription = subscription;
}
board.start();
chat.attach(follow(chat.channel, {
  publication: (_data, _offset, live, context) => chat.push(context, live),
}).subscription);

// Connection state.
const pill = document.getElementById("state");
function showState(state, text) {
  pill.dataset.state = state;
  pill.lastElementChild.textContent = text;
  document.body.classList.toggle("stale", state !== "connected");
}
let wasConnected = false;
centrifuge.on("connected", () => {
  wasConnected = true;
  showState("connected", "connected");
});
centrifuge.on("connecting", () => showState("connecting", wasConnected ? "reconnecting" : "connecting"));
centrifuge.on("disconnected", (context) => showState("disconnected", `${context.reason} (${context.code})`));

// Figures.
setInterval(() => latency.show(), 500);
setInterval(() => {
  const probe = cards[0]?.subscription;
  if (centrifuge.state !== "connected" || probe?.state !== "subscribed" || document.hidden) return;
  const started = performance.now();
  probe.history({ limit: 0 }).then(() => latency.addRoundTrip(performance.now() - started), () => {});
}, 2000);

startTheme(() => {
  for (const card of cards) card.redraw();
  latency.redraw();
});
identity.start();
