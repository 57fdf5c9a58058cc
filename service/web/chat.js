// The chat room: a list, a composer, and each new message as a bullet comment.

import { Danmaku } from "./danmaku.js";

const KEEP = 200;
const PALETTE = 8;
const CLOCK = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

export class ChatRoom {
  constructor(centrifuge) {
    this.centrifuge = centrifuge;
    this.channel = "chat:lobby";
    this.seen = new Set(); // offsets in the list
    this.sent = new Map(); // nonce → when it was sent
    this.list = document.getElementById("messages");
    this.newer = document.getElementById("newer");
    this.error = document.getElementById("chat-error");
    this.danmaku = new Danmaku(document.getElementById("bullets"));
    this.startComposer();
    this.newer.addEventListener("click", () => this.scrollDown());
    this.list.addEventListener("scroll", () => {
      if (this.atEnd()) this.newer.hidden = true;
    });
    const fly = document.getElementById("fly");
    fly.addEventListener("click", () => {
      this.danmaku.enabled = !this.danmaku.enabled;
      fly.setAttribute("aria-pressed", String(this.danmaku.enabled));
      if (!this.danmaku.enabled) this.danmaku.clear();
    });
  }

  attach(subscription) {
    this.subscription = subscription;
    const count = () => {
      if (subscription.state !== "subscribed") return;
      subscription.presenceStats().then(
        ({ numClients }) => {
          document.getElementById("present").textContent = `${numClients} ${numClients === 1 ? "viewer" : "viewers"}`;
        },
        () => {}, // presence is off here
      );
    };
    subscription.on("subscribed", count);
    setInterval(count, 5000);
  }

  /** History: at the beginning, or after messages were missed. */
  load(publications, missed) {
    const fresh = publications.filter(({ offset }) => !this.seen.has(offset));
    if (missed && fresh.length) this.notice("some messages were missed");
    // What came live while the history was under way is in the list already, and newer.
    const before = missed ? null : this.list.firstElementChild;
    for (const { data, offset } of fresh) this.insert(this.item(data, offset, {}), offset, before);
    this.scrollDown();
  }

  push(data, offset, live) {
    if (this.seen.has(offset)) return;
    const follow = this.atEnd();
    const { who, text, nonce } = read(data);
    const started = this.sent.get(nonce);
    this.sent.delete(nonce);
    const own = started !== undefined;
    const item = this.item(data, offset, { own, took: own ? performance.now() - started : null });
    this.insert(item, offset, null);
    if (live) this.danmaku.fly(own ? `${who}: ${text}` : text, { own });
    while (this.list.childElementCount > KEEP) {
      this.seen.delete(Number(this.list.firstElementChild.dataset.offset));
      this.list.firstElementChild.remove();
    }
    if (follow || own) this.scrollDown();
    else this.newer.hidden = false;
  }

  insert(item, offset, before) {
    this.seen.add(offset);
    this.list.insertBefore(item, before);
  }

  item(data, offset, { own = false, took = null }) {
    const { who, text } = read(data);
    const item = document.createElement("li");
    item.dataset.offset = offset;
    if (own) item.classList.add("own");
    const time = element("time", CLOCK.format(Math.floor(offset / 4096)));
    const name = element("b", who);
    name.className = `c${hash(who) % PALETTE}`;
    item.append(time, name, element("span", text));
    if (took !== null) item.append(element("small", `${took.toFixed(took < 10 ? 1 : 0)} ms`));
    return item;
  }

  notice(text) {
    const item = element("li", text);
    item.className = "notice";
    this.list.append(item);
  }

  atEnd() {
    return this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < 40;
  }

  scrollDown() {
    this.list.scrollTop = this.list.scrollHeight;
    this.newer.hidden = true;
  }

  startComposer() {
    const name = document.getElementById("name"), text = document.getElementById("text");
    name.value = localStorage.getItem("name") || `guest-${Math.floor(Math.random() * 900 + 100)}`;
    name.addEventListener("change", () => {
      name.value = name.value.trim() || "guest"; // what is sent
      localStorage.setItem("name", name.value);
    });
    document.getElementById("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      const message = { user: name.value.trim() || "guest", text: text.value.trim(), nonce: nonce() };
      if (!message.text) return;
      this.sent.set(message.nonce, performance.now());
      this.subscription.publish(message).then(
        () => {
          this.error.hidden = true;
          if (text.value.trim() === message.text) text.value = "";
        },
        (error) => {
          this.sent.delete(message.nonce);
          this.error.textContent = `not sent: ${error.message}`;
          this.error.hidden = false;
        },
      );
    });
  }
}

/** Any JSON may be in the stream; what is no message is shown as it is. */
function read(data) {
  if (typeof data === "object" && data !== null && typeof data.text === "string") {
    return { who: String(data.user ?? "someone"), text: data.text, nonce: data.nonce };
  }
  return { who: "someone", text: typeof data === "string" ? data : JSON.stringify(data) };
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function nonce() {
  return Array.from(crypto.getRandomValues(new Uint32Array(3)), (word) => word.toString(36)).join("");
}

function hash(text) {
  let value = 0;
  for (const char of text) value = (value * 31 + char.codePointAt(0)) >>> 0;
  return value;
}
